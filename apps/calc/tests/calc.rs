//! The calculator as somebody at its console sees it.

use calc::{Wrong, calculate};
use ilwaco::block_on;
use ilwaco::sim::Sim;

#[test]
fn expressions_come_to_what_they_should() {
    for (text, expected) in [
        ("6*7", Ok(42)),
        (" 2 * ( 3 + 4 ) - 1 ", Ok(13)),
        ("7 - 2 - 1", Ok(4)),
        ("-3 * -(1 + 1)", Ok(6)),
        ("7 / 2", Ok(3)),
        ("1 / 0", Err(Wrong::Zero)),
        ("9223372036854775807 + 1", Err(Wrong::Large)),
        ("99999999999999999999", Err(Wrong::Large)),
        ("", Err(Wrong::Syntax)),
        ("1 2", Err(Wrong::Syntax)),
        ("(1", Err(Wrong::Syntax)),
        ("1)", Err(Wrong::Syntax)),
        ("two", Err(Wrong::Syntax)),
    ] {
        assert_eq!(calculate(text), expected, "{text}");
    }
    assert_eq!(calculate(&"(".repeat(100_000)), Err(Wrong::Syntax), "deep brackets do not overflow the stack");
    assert_eq!(calculate(&"-".repeat(100_000)), Err(Wrong::Syntax));
}

#[test]
fn it_talks_over_its_console() {
    let _sim = Sim::new("");
    ilwaco::sim::start();
    Sim::type_in("1 + 2\n\ncount 3\nwhat\nexit\n");
    assert_eq!(block_on(calc::run()), 0);
    let said = Sim::console();
    let mut rest = said.as_str();
    for says in ["calc: ready", "calc> 3\ncalc> calc> 1\n2\n3\ncalc> that is no expression", "calc> calc: bye\n"] {
        let (_, behind) = rest.split_once(says).unwrap_or_else(|| panic!("{says} in {said}"));
        rest = behind;
    }
}

#[test]
fn it_ends_when_it_is_asked_to() {
    let _sim = Sim::new("");
    ilwaco::sim::start();
    Sim::ask_shutdown();
    assert_eq!(block_on(calc::run()), 0);
    assert!(Sim::console().ends_with("calc: asked to end\n"));
}
