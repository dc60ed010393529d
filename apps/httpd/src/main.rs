//! The web server of every VM: a few documents, and the state of the VM that serves them.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

ilwaco::main!(httpd::serve);
