//! Counts lines of code and uses of `unsafe`: no blanks, no comments, no tests.

use crate::error::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What a part consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Lines with code on them.
    pub lines: usize,
    /// `unsafe` blocks.
    pub unsafe_blocks: usize,
    /// `unsafe` functions, traits and implementations.
    pub unsafe_items: usize,
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        self.lines += other.lines;
        self.unsafe_blocks += other.unsafe_blocks;
        self.unsafe_items += other.unsafe_items;
    }
}

impl std::iter::Sum<Size> for Size {
    fn sum<I: Iterator<Item = Size>>(sizes: I) -> Size {
        sizes.fold(Size::default(), |mut sum, size| {
            sum += size;
            sum
        })
    }
}

/// The size of one file, Rust or assembly, its inline tests left out.
pub fn count_file(path: &Path) -> Result<Size> {
    let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    Ok(if is_rust { Source::read(&text).size() } else { assembly(&text) })
}

/// The size of the sources below `folder` (a package's `src`): Rust and assembly, test modules left out.
pub fn count(folder: &Path) -> Result<Size> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    let mut sources = Vec::new();
    let mut tests = BTreeSet::new();
    for path in files {
        let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        if path.extension().is_some_and(|extension| extension == "rs") {
            let source = Source::read(&text);
            tests.extend(source.test_files.iter().map(|module| module_file(&path, module)));
            sources.push((path, source.size()));
        } else {
            sources.push((path, assembly(&text)));
        }
    }
    let mut total = Size::default();
    for (path, size) in sources {
        // The modules below a test module are tests, too.
        if !tests.iter().any(|test| path == *test || path.starts_with(folder_of(test))) {
            total += size;
        }
    }
    Ok(total)
}

/// Adds the sources below `folder` to `files`: Rust and assembly.
pub(super) fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.context(|| format!("cannot read {}", folder.display()))?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| ["rs", "s", "S", "asm"].iter().any(|known| extension == *known))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Where the module `module` (or the file that `#[path]` names) of the file `parent` is.
fn module_file(parent: &Path, module: &str) -> PathBuf {
    let folder = parent.parent().unwrap_or(Path::new(""));
    if module.ends_with(".rs") {
        return folder.join(module);
    }
    let stem = parent.file_stem().unwrap_or_default();
    let owns_folder = ["lib", "main", "mod"].iter().any(|name| stem == *name);
    let folder = if owns_folder { folder.to_owned() } else { folder.join(stem) };
    let file = folder.join(format!("{module}.rs"));
    if file.is_file() { file } else { folder.join(module).join("mod.rs") }
}

/// The folder of the modules below the module in this file.
fn folder_of(module: &Path) -> PathBuf {
    if module.ends_with("mod.rs") { module.parent().unwrap_or(module).to_owned() } else { module.with_extension("") }
}

/// GNU assembly: a line counts unless it is empty or only a comment.
fn assembly(text: &str) -> Size {
    let code = |line: &&str| {
        let line = line.trim();
        !line.is_empty()
            && !line.starts_with('#')
            && !line.starts_with("//")
            && !line.starts_with("/*")
            && !line.starts_with('*')
    };
    Size { lines: text.lines().filter(code).count(), ..Size::default() }
}

/// A Rust file without comments.
pub(super) struct Source {
    /// The code with its strings.
    code: Vec<char>,
    /// The same, strings and character literals blanked: what looks like a keyword or a brace is one.
    bare: Vec<char>,
    /// Test modules in files of their own: module names, or paths from `#[path]`.
    test_files: Vec<String>,
}

impl Source {
    /// The file without its inline tests.
    fn read(text: &str) -> Source {
        let mut source = Source::whole(text);
        source.cut_tests();
        source
    }

    /// The file with its inline tests.
    pub(super) fn whole(text: &str) -> Source {
        let (code, bare) = without_comments(text);
        Source { code, bare, test_files: Vec::new() }
    }

    /// Whether the keyword `unsafe` stands in it, also in an attribute.
    #[cfg(test)]
    pub(super) fn has_unsafe(&self) -> bool {
        let bare: String = self.bare.iter().collect();
        bare.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    }

    fn size(&self) -> Size {
        let code: String = self.code.iter().collect();
        let bare: String = self.bare.iter().collect();
        let mut size = Size { lines: code.lines().filter(|line| !line.trim().is_empty()).count(), ..Size::default() };
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        for (at, _) in bare.match_indices("unsafe") {
            let before = bare[..at].chars().next_back();
            let rest = &bare[at + "unsafe".len()..];
            // `unsafe_op_in_unsafe_fn` is a lint's name, `#[unsafe(no_mangle)]` an attribute.
            if before.is_some_and(is_word) || rest.starts_with(|c| is_word(c) || c == '(') {
                continue;
            }
            if rest.trim_start().starts_with('{') {
                size.unsafe_blocks += 1;
            } else {
                size.unsafe_items += 1;
            }
        }
        size
    }

    /// Blanks every item that is there in tests only: `#[cfg(test)]`, the fake CPU of `backend`, and what fuzzers feed.
    fn cut_tests(&mut self) {
        self.cut("#[cfg(test)]", |source| &source.bare);
        self.cut("#[cfg(any(test, feature = \"fake\"))]", |source| &source.code);
        // What is between quotes stands in the code only.
        for feature in ["fake", "fuzzing"] {
            self.cut(&format!("#[cfg(feature = \"{feature}\")]"), |source| &source.code);
        }
    }

    /// Blanks every item that carries this attribute, looked for in one of the two texts.
    fn cut(&mut self, attribute: &str, text: fn(&Source) -> &[char]) {
        let pattern: Vec<char> = attribute.chars().collect();
        let mut from = 0;
        while let Some(start) = find(text(self), &pattern, from) {
            let end = item_end(&self.bare, start);
            let item: String = self.code[start..end].iter().collect();
            if let Some(module) = external_module(&item) {
                self.test_files.push(module);
            }
            for at in start..end {
                if self.code[at] != '\n' {
                    self.code[at] = ' ';
                    self.bare[at] = ' ';
                }
            }
            from = end;
        }
    }
}

fn find(text: &[char], pattern: &[char], from: usize) -> Option<usize> {
    text.get(from..)?.windows(pattern.len()).position(|window| window == pattern).map(|at| from + at)
}

/// Just behind the item that starts (with its attributes) at `start`: its first `;` or the end of its first braces.
fn item_end(bare: &[char], start: usize) -> usize {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, c) in bare.iter().enumerate().skip(start) {
        match c {
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return at + 1;
                }
            }
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            ';' if braces == 0 && others == 0 => return at + 1,
            _ => {}
        }
    }
    bare.len()
}

/// The module's name, or its path, when `item` is `mod name;`.
fn external_module(item: &str) -> Option<String> {
    let item = item.trim_end().strip_suffix(';')?;
    let (before, name) = item.rsplit_once("mod ")?;
    let path = before.split_once("#[path").and_then(|(_, rest)| rest.split('"').nth(1));
    Some(path.unwrap_or(name.trim()).to_owned())
}

/// `text` without comments, and the same without the contents of strings. Line breaks stay where they are.
fn without_comments(text: &str) -> (Vec<char>, Vec<char>) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut bare) = (Vec::new(), Vec::new());
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let (length, kind) = token(rest, at.checked_sub(1).map(|before| chars[before]));
        for &c in &rest[..length] {
            code.push(if kind == Kind::Comment { blank(c) } else { c });
            bare.push(if kind == Kind::Code { c } else { blank(c) });
        }
        at += length;
    }
    (code, bare)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// Length and kind of what `rest` (not empty) begins with; `before` is the character in front of it.
fn token(rest: &[char], before: Option<char>) -> (usize, Kind) {
    let until = |from: usize, end: fn(char) -> bool| {
        rest.iter().skip(from).position(|&c| end(c)).map_or(rest.len(), |at| from + at)
    };
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    match rest {
        ['/', '/', ..] => (until(2, |c| c == '\n'), Kind::Comment),
        ['/', '*', ..] => (block_comment(rest), Kind::Comment),
        ['"', ..] => (string(rest, 1), Kind::Literal),
        ['b' | 'c', '"', ..] if !in_word => (string(rest, 2), Kind::Literal),
        ['r', '"' | '#', ..] if !in_word => raw_string(rest, 1),
        ['b' | 'c', 'r', '"' | '#', ..] if !in_word => raw_string(rest, 2),
        // A character, not a lifetime: 'x' or '\...'.
        ['\'', '\\', ..] => (until(3, |c| c == '\'').saturating_add(1).min(rest.len()), Kind::Literal),
        ['\'', _, '\'', ..] => (3, Kind::Literal),
        _ => (1, Kind::Code),
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn string(rest: &[char], from: usize) -> usize {
    let mut at = from;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[char], from: usize) -> (usize, Kind) {
    let hashes = rest[from..].iter().take_while(|&&c| c == '#').count();
    if rest.get(from + hashes) != Some(&'"') {
        // `r#name` is an identifier.
        return (1, Kind::Code);
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    (find(rest, &end, from + hashes + 1).map_or(rest.len(), |at| at + end.len()), Kind::Literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Size {
        Source::read(text).size()
    }

    #[test]
    fn blanks_and_comments_do_not_count() {
        let text = "//! Docs.\n\nfn main() { // here\n    /* not\n    /* this */ nor this */\n    let s = \"// no comment\";\n}\n";
        assert_eq!(size(text).lines, 3);
    }

    #[test]
    fn assembly_in_strings_counts() {
        assert_eq!(size("asm!(\n    \"\n    mov eax, 1\n\n    ret\n    \"\n);\n").lines, 6);
        assert_eq!(assembly("# comment\n\n// another\n mov eax, 1\nlabel: # here\n").lines, 2);
    }

    #[test]
    fn tests_do_not_count() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { let brace = '}'; let s = \"}\"; }\n}\nfn c() {}\n";
        assert_eq!(size(text).lines, 2);
        let source = Source::read(
            "#[cfg(test)]\nmod more_tests;\n#[cfg(test)]\n#[path = \"x_test.rs\"]\nmod tests;\nfn a() {}\n",
        );
        assert_eq!(source.test_files, ["more_tests", "x_test.rs"]);
        let source = Source::read("#[cfg(feature = \"fake\")]\npub mod fake;\nfn a() {}\n");
        assert_eq!((source.test_files.as_slice(), source.size().lines), (&["fake".to_owned()][..], 1));
        assert_eq!(source.size().lines, 1);
    }

    #[test]
    fn unsafe_is_what_the_compiler_takes_for_it() {
        let text = "#![deny(unsafe_op_in_unsafe_fn)]\n#[unsafe(no_mangle)]\nunsafe fn a() {}\nfn b() { unsafe { a() } }\n\
                    // unsafe {\nconst S: &str = \"unsafe {\";\nunsafe impl Send for X {}\nfn c<'a>(x: &'a str) { unsafe\n{ } }\n";
        let size = size(text);
        assert_eq!((size.unsafe_blocks, size.unsafe_items), (2, 2));
    }

    #[test]
    fn literals_end_where_they_end() {
        let text = "let a = r#\"// \"#; let b = '\\''; let c = b\"\\\"//\"; let r#type = 'x'; // gone\nlet d = 1;\n";
        let source = Source::read(text);
        let code: String = source.code.iter().collect();
        assert!(code.contains("let r#type = 'x';") && !code.contains("gone"));
        assert_eq!(source.size().lines, 2);
    }

    #[test]
    fn modules_are_found_where_rust_finds_them() {
        assert_eq!(module_file(Path::new("/none/src/a.rs"), "t.rs"), Path::new("/none/src/t.rs"));
        assert_eq!(module_file(Path::new("/none/src/lib.rs"), "t"), Path::new("/none/src/t/mod.rs"));
        assert_eq!(module_file(Path::new("/none/src/a.rs"), "t"), Path::new("/none/src/a/t/mod.rs"));
    }
}
