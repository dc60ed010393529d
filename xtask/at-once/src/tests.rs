use super::*;
use serde_json::json;

/// Each change: its genre, the piece of `source` that it changes, and what comes there. Returns the new text and the numbers of
/// those that are in it.
fn rewritten_by(source: &str, changes: &[(&str, &str, &str)]) -> (String, Vec<usize>) {
    rewritten_with(false, source, changes)
}

fn rewritten_with(careful: bool, source: &str, changes: &[(&str, &str, &str)]) -> (String, Vec<usize>) {
    let position = |byte: usize| {
        let before = &source[..byte];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        json!({"line": before.matches('\n').count() + 1, "column": before[line_start..].chars().count() + 1})
    };
    let listed: Vec<list::Listed> = changes
        .iter()
        .map(|(genre, piece, replacement)| {
            let start = source.find(piece).expect("a piece of the source");
            let span = json!({"start": position(start), "end": position(start + piece.len())});
            let mutant = json!({"file": "f.rs", "genre": genre, "replacement": replacement, "span": span});
            serde_json::from_value(mutant).expect("a mutant")
        })
        .collect();
    let numbered: Vec<_> = (1..).zip(&listed).collect();
    let (text, numbers) = rewritten(source, &numbered, careful).expect("Rust");
    syn::parse_file(&text).expect("still Rust");
    (text, numbers.into_iter().collect())
}

#[test]
fn a_function_returns_a_value_at_once() {
    let (text, numbers) =
        rewritten_by("fn f() -> u8 { g(); 5 }", &[("FnValue", "g(); 5", "0"), ("FnValue", "g(); 5", "1")]);
    assert_eq!(numbers, [1, 2]);
    assert_eq!(
        text,
        "fn f() -> u8 {/*<1*/if crate::__mutant() == 1 { return 0; }/*>1*/ /*<2*/if crate::__mutant() == 2 { return 1; }\
         /*>2*/  g(); 5 }"
    );
}

#[test]
fn a_value_of_another_type_does_not_stand_beside_one_that_only_a_trait_names() {
    let source = "fn f() -> impl Iterator<Item = u8> { g() + 1 }";
    let (text, numbers) =
        rewritten_by(source, &[("FnValue", "g() + 1", "::std::iter::empty()"), ("BinaryOperator", "+", "-")]);
    assert_eq!(numbers, [2]);
    assert!(!text.contains("empty"));
}

#[test]
fn operators_within_operators_are_chosen_one_at_a_time() {
    let (text, numbers) = rewritten_by(
        "fn f() -> bool { let ü = 1; !a && b < ü }",
        &[("BinaryOperator", "&&", "||"), ("BinaryOperator", "<", "=="), ("UnaryOperator", "!", "")],
    );
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(
        text,
        "fn f() -> bool { let ü = 1; (match crate::__mutant() { /*<1*/1 => (!a || b < ü),/*>1*/ _ => (\
         (match crate::__mutant() { /*<3*/3 => (a),/*>3*/ _ => (!a) }) && \
         (match crate::__mutant() { /*<2*/2 => (b == ü),/*>2*/ _ => (b < ü) })) }) }"
    );
}

#[test]
fn arms_and_their_conditions_go() {
    let source = "fn f() { match x { A if p => 1, B => 2, _ => 3 } }";
    let changes = [("MatchArm", "A if p => 1,", ""), ("MatchArmGuard", "p", "true"), ("MatchArm", "B => 2,", "")];
    let (text, numbers) = rewritten_by(source, &changes);
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(
        text,
        "fn f() { match x { A if crate::__mutant() != 1 && (match crate::__mutant() { /*<2*/2 => (true),/*>2*/ _ => (p) }) \
         => 1, B if crate::__mutant() != 3 => 2, _ => 3 } }"
    );
}

#[test]
fn fields_go_with_their_commas() {
    let (text, numbers) = rewritten_by("fn f() -> S { S { a, b: 2, ..s } }", &[("StructField", "a,", "")]);
    assert_eq!(numbers, [1]);
    assert!(text.contains("/*<1*/1 => (S {  b: 2, ..s }),/*>1*/ _ => (S { a, b: 2, ..s })"), "{text}");
}

#[test]
fn with_care_functions_stay_constant_and_arms_without_conditions() {
    let changes = [("BinaryOperator", "<<", ">>"), ("MatchArm", "1 =>", "")];
    let source = "const fn f() -> u8 { match 1 << 2 { 1 => 3, _ => 4 } }";
    assert_eq!(rewritten_with(true, source, &changes), (source.to_owned(), vec![]));
    let (text, numbers) = rewritten_by(source, &changes);
    assert_eq!(numbers, [1, 2]);
    assert!(text.starts_with(" fn f() -> u8 {") && text.contains(" 1 if crate::__mutant() != 2 => 3"), "{text}");
}

#[test]
fn what_cannot_be_chosen_at_run_time_stays_as_it_is() {
    for (source, piece) in [
        ("const C: u8 = 1 << 2;", "<<"),
        ("static S: u8 = 1 << 2;", "<<"),
        ("fn f() { let a = [0; 1 << 2]; }", "<<"),
        ("fn f(a: [u8; 1 << 2]) {}", "<<"),
        ("fn f() { if a && let Some(b) = c {} }", "&&"),
    ] {
        assert_eq!(rewritten_by(source, &[("BinaryOperator", piece, ">>")]), (source.to_owned(), vec![]));
    }
    // What runs within a constant's function is no constant's.
    let source = "fn f() { const C: u8 = 3; if a && (b || matches!(c, C)) {} }";
    assert_eq!(rewritten_by(source, &[("BinaryOperator", "||", "&&"), ("New", "f", "g")]).1, [1]);
}
