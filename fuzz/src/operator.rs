//! What comes in on the operator's serial line.

use monitor::arguments::Arguments;
use monitor::command::Command;
use monitor::editor::{Editor, LINE_MAX, Typed};
use monitor::mistake::Mistake;

/// Any bytes; the lines in them, and the commands.
pub fn run(data: &[u8]) -> bool {
    let mut editor = Editor::new();
    let mut commands = false;
    for &byte in data {
        let Some(Typed::Line(line)) = editor.byte(byte) else { continue };
        assert!(line.len() <= LINE_MAX && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        let first = line.split(' ').find(|word| !word.is_empty()).expect("blank lines are no lines");
        let mut args = Arguments::new();
        let parsed = Command::parse(&line, &mut args);
        match &parsed {
            Ok(command) => {
                commands = true;
                assert_eq!(command.word(), first);
            }
            Err(Mistake::Arguments { word, .. }) => assert_eq!(*word, first),
            Err(_) => {}
        }
        // Spaces around a command mean nothing.
        let mut again = Arguments::new();
        assert_eq!(Command::parse(&format!(" {line}  "), &mut again), parsed);
        assert!(parsed.is_err() || again.as_bytes() == args.as_bytes());
    }
    commands
}

/// One line of each command, and what one types wrong.
pub fn seeds() -> Vec<Vec<u8>> {
    let lines: [&[u8]; 5] = [
        b"help\rvms\r\nframes\ncomponents\nimages\nmachine\n",
        b"vm 3\rdestroy 1048575\rshutdown 0\r",
        b"kill netmux\rpolicy sched lottery\rpolicy\r",
        b"create httpd weight=100 rate=1MiB burst=1514 log=debug x=1\rcreate hostile rate=unlimited\r",
        b"identity 3 addr=10.0.2.99 crime=all  x=1\ridentity 4\r",
    ];
    let overlong = format!("vns\x08\x08ms\r\x15{}\rpoweroff\r", "x".repeat(LINE_MAX + 1)).into_bytes();
    lines.iter().map(|line| line.to_vec()).chain([overlong]).collect()
}
