//! A calculator on the console, for `vm console`: the operator types an expression, and it says what that comes to.
#![no_std]
#![forbid(unsafe_code)]

use core::iter::Peekable;
use core::str::Chars;
use ilwaco::console::read_line;
use ilwaco::task::{Either, race, shutdown_requested};
use ilwaco::{print, println};

/// What it asks with.
const PROMPT: &str = "calc> ";
/// What `help` says.
const HELP: &str = "numbers, + - * / and ( ); `count N` counts to N; `exit` ends the VM";
/// How deep brackets may lie in each other: each takes a piece of the stack.
const DEEPEST: usize = 32;

/// Why an expression comes to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Something stands where it makes no sense, or is missing.
    Syntax,
    /// A division by zero.
    Zero,
    /// It does not fit into 64 bits.
    Large,
}

impl Wrong {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Wrong::Syntax => "that is no expression: try 2 * (3 + 4), or help",
            Wrong::Zero => "nothing can be divided by 0",
            Wrong::Large => "that does not fit into 64 bits",
        }
    }
}

/// Serves its console until the operator, or the machine, wants it to end. The code that the VM ends with: 0.
pub async fn run() -> u64 {
    println!("calc: ready; {HELP}");
    print!("{PROMPT}");
    loop {
        let line = match race(shutdown_requested(), read_line()).await {
            Either::Left(()) => {
                println!("calc: asked to end");
                return 0;
            }
            Either::Right(line) => line,
        };
        match line.trim() {
            "" => {}
            "help" => println!("{HELP}"),
            "exit" => {
                println!("calc: bye");
                return 0;
            }
            line => match line.strip_prefix("count ").map(|count| count.trim().parse::<u32>()) {
                Some(Ok(count)) => (1..=count).for_each(|number| println!("{number}")),
                Some(Err(_)) => println!("count to which number?"),
                None => match calculate(line) {
                    Ok(value) => println!("{value}"),
                    Err(why) => println!("{}", why.text()),
                },
            },
        }
        print!("{PROMPT}");
    }
}

type Rest<'a> = Peekable<Chars<'a>>;

/// What an expression comes to.
///
/// # Errors
/// [`Wrong`].
pub fn calculate(text: &str) -> Result<i64, Wrong> {
    let mut rest = text.chars().peekable();
    let value = sum(&mut rest, 0)?;
    if next(&mut rest).is_some() { Err(Wrong::Syntax) } else { Ok(value) }
}

/// The next sign, which stays where it is.
fn next(rest: &mut Rest) -> Option<char> {
    while rest.next_if(|sign| sign.is_ascii_whitespace()).is_some() {}
    rest.peek().copied()
}

fn sum(rest: &mut Rest, depth: usize) -> Result<i64, Wrong> {
    let mut value = product(rest, depth)?;
    while let Some(sign @ ('+' | '-')) = next(rest) {
        rest.next();
        let right = product(rest, depth)?;
        let result = if sign == '+' { value.checked_add(right) } else { value.checked_sub(right) };
        value = result.ok_or(Wrong::Large)?;
    }
    Ok(value)
}

fn product(rest: &mut Rest, depth: usize) -> Result<i64, Wrong> {
    let mut value = factor(rest, depth)?;
    while let Some(sign @ ('*' | '/')) = next(rest) {
        rest.next();
        let right = factor(rest, depth)?;
        let result = match (sign, right) {
            ('/', 0) => return Err(Wrong::Zero),
            ('/', _) => value.checked_div(right),
            _ => value.checked_mul(right),
        };
        value = result.ok_or(Wrong::Large)?;
    }
    Ok(value)
}

fn factor(rest: &mut Rest, depth: usize) -> Result<i64, Wrong> {
    match next(rest) {
        Some('(' | '-') if depth >= DEEPEST => Err(Wrong::Syntax),
        Some('(') => {
            rest.next();
            let value = sum(rest, depth + 1)?;
            if next(rest) == Some(')') { rest.next() } else { None }.ok_or(Wrong::Syntax)?;
            Ok(value)
        }
        Some('-') => {
            rest.next();
            factor(rest, depth + 1)?.checked_neg().ok_or(Wrong::Large)
        }
        Some('0'..='9') => {
            let mut value = 0_i64;
            while let Some(digit) = rest.peek().and_then(|sign| sign.to_digit(10)) {
                rest.next();
                value = value.checked_mul(10).and_then(|value| value.checked_add(digit.into())).ok_or(Wrong::Large)?;
            }
            Ok(value)
        }
        _ => Err(Wrong::Syntax),
    }
}
