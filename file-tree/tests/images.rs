//! Trees in images that mke2fs has made, held against what another reader (ext4-view) finds in them.

mod image;

use ext4_view::{Ext4, FileType};
use file_tree::{BLOCK, CACHE_BLOCKS, Error, File, Node, Tree};
use image::{Image, block_on};
use std::rc::Rc;

fn file(tree: &Tree<Image>, path: &str) -> File {
    match block_on(tree.find(path.as_bytes())) {
        Ok(Node::File(file)) => file,
        other => panic!("{path}: {other:?}"),
    }
}

fn missing(tree: &Tree<Image>, path: &str) -> bool {
    block_on(tree.find(path.as_bytes())) == Err(Error::Missing)
}

/// The content of a file, read in pieces of so many bytes.
fn content(tree: &Tree<Image>, file: &File, piece: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut into = vec![0; piece];
    loop {
        match block_on(tree.read(file, bytes.len() as u64, &mut into))? {
            0 => return Ok(bytes),
            len => bytes.extend_from_slice(&into[..len]),
        }
    }
}

/// Everything below a directory, as the other reader sees it: paths and metadata.
fn listed(other: &Ext4, directory: &str, to: &mut Vec<(String, FileType, u64)>) {
    for entry in other.read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = entry.path().to_str().expect("UTF-8").to_owned();
        if [b".".as_slice(), b".."].contains(&entry.file_name().as_ref()) {
            continue;
        }
        let found = other.symlink_metadata(path.as_str()).expect("metadata");
        if found.is_dir() {
            listed(other, &path, to);
        }
        to.push((path, found.file_type(), found.len()));
    }
}

#[test]
fn both_readers_find_the_same() {
    for block_bytes in [1024, 2048, 4096] {
        let source = image::source();
        let bytes = image::make(&source, block_bytes, &[]);
        let other = Ext4::load(Box::new(bytes.clone())).expect("the other reader takes it");
        let tree = block_on(Tree::open(Image::new(bytes))).expect("a tree");
        let mut all = Vec::new();
        listed(&other, "/", &mut all);
        assert!(all.len() > 400, "{}", all.len());
        let mut files = 0;
        for (path, kind, len) in &all {
            if *kind == FileType::Directory {
                assert_eq!(block_on(tree.find(path.as_bytes())), Ok(Node::Directory), "{path}");
            }
            // Of the many, every tenth.
            if *kind != FileType::Regular || path.starts_with("/many/") && !path.ends_with('7') {
                continue;
            }
            let found = file(&tree, path);
            assert_eq!(found.len(), *len, "{path}");
            let expected = other.read(path.as_str()).expect("content");
            let mut whole = vec![0; expected.len() + 1];
            let read = block_on(tree.read(&found, 0, &mut whole)).expect("content");
            assert!(read == expected.len() && whole[..read] == expected, "{path}");
            assert!(content(&tree, &found, 3000).expect("content") == expected, "{path}, in pieces");
            assert_eq!(block_on(tree.read(&found, *len + 5, &mut whole)), Ok(0), "{path}");
            files += 1;
        }
        assert!(files > 40 && tree.cached() <= CACHE_BLOCKS, "{files}");
        tree.forget();
        assert_eq!(tree.cached(), 0);
    }
}

#[test]
fn what_a_file_is() {
    let source = image::source();
    image::add_ancient(&source);
    let tree = block_on(Tree::open(Image::new(image::make(&source, 4096, &[])))).expect("a tree");
    let found = file(&tree, "/docs/read me.txt");
    assert_eq!(found.modified(), (1_700_000_000, 0));
    assert_eq!(file(&tree, "docs//read me.txt"), found, "slashes more or less");
    assert_eq!(file(&tree, "docs/./../docs/read me.txt"), found);
    assert!(file(&tree, "empty").is_empty());
    let ancient = file(&tree, "ancient");
    assert!(ancient.modified().0 < 0 && ancient.inode() != found.inode());
    assert_eq!(block_on(tree.find(b"")), Ok(Node::Directory));
    for path in
        ["nothing", "docs/nothing", "docs/read me.txt/", "docs/read me.txt/x", "Docs", "pipe", "..", "docs/../../docs"]
    {
        assert!(missing(&tree, path), "{path}");
    }
    assert!(missing(&tree, &"a/".repeat(3_000)) && missing(&tree, &"n".repeat(300)));
}

#[test]
fn links_stay_in_the_tree() {
    let source = image::source();
    let tree = block_on(Tree::open(Image::new(image::make(&source, 4096, &[])))).expect("a tree");
    let target = file(&tree, "docs/read me.txt");
    for path in ["link", "links/up", "links/long", "links/chain", "links/directory/read me.txt"] {
        assert_eq!(file(&tree, path), target, "{path}");
    }
    assert_eq!(block_on(tree.find(b"links/directory")), Ok(Node::Directory));
    for path in ["links/absolute", "links/out", "links/out/passwd", "links/circle", "links/dangling", "link/"] {
        assert!(missing(&tree, path), "{path}");
    }
}

#[test]
fn files_of_many_extents_and_with_holes() {
    let source = image::source();
    let bytes = image::make(&source, 4096, &[]);
    let tree = block_on(Tree::open(Image::new(bytes))).expect("a tree");
    let holes = file(&tree, "holes");
    assert_eq!(holes.len(), 40 << 20);
    let mut into = [1; 5000];
    assert_eq!(block_on(tree.read(&holes, 1 << 20, &mut into)), Ok(5000));
    assert!(into == [0; 5000], "a hole reads as zeros");
    // Every second block is there: so many extents have nodes of their own.
    for index in [0_u64, 700, 1999] {
        let mut block = [0; BLOCK];
        assert_eq!(block_on(tree.read(&holes, (2 << 20) + index * 8192, &mut block)), Ok(BLOCK));
        assert_eq!(block[..8], (index + 1).to_le_bytes(), "{index}");
    }
    let (cached, before) = (tree.cached(), image::reads());
    assert_eq!(block_on(tree.read(&holes, (2 << 20) + 1999 * 8192, &mut [0; BLOCK])), Ok(BLOCK));
    assert_eq!((tree.cached(), image::reads()), (cached, before + 1), "a large file's blocks drive out no others");
}

#[test]
fn what_is_no_tree_is_said() {
    let open = |bytes: Vec<u8>| match block_on(Tree::open(Image::new(bytes))) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert!(open(Vec::new()).contains("no blocks"));
    assert!(open(vec![0; 8 * BLOCK]).contains("no ext4 file system"));
    let source = image::source();
    let whole = image::make(&source, 4096, &[]);
    let cut = whole[..whole.len() / 2].to_vec();
    assert!(open(cut).contains("larger than its disk"));
    assert!(open(image::make(&source, 4096, &["-t", "ext4", "-O", "inline_data"])).contains("not known here"));
    assert!(open(image::make(&source, 4096, &["-t", "ext2"])).contains("no ext4"));
    for (offset, value, what) in [
        (1024 + 0x58, 0, "an inode cannot have"),
        (1024 + 0x28, 0, "no inodes"),
        (1024 + 0x18, 3, "larger than 4096"),
        (1024 + 0x60, 0x4, "not unmounted"),
    ] {
        let mut bytes = whole.clone();
        if value == 4 {
            bytes[offset] |= 4;
        } else {
            bytes[offset..offset + 4].fill(0);
            bytes[offset] = value;
        }
        let said = open(bytes);
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn a_disk_that_cannot_read_is_said() {
    let source = image::source();
    let mut disk = Image::new(image::make(&source, 4096, &[]));
    disk.bad_from = 1;
    let tree = block_on(Tree::open(disk)).expect("the first block is good");
    let error = block_on(tree.find(b"empty")).expect_err("no more than that");
    assert_eq!(error.to_string(), "block 1 of the disk cannot be read: a bad block");
}

/// Bytes of metadata changed at random: whatever is answered, it is answered, and within bounds.
#[test]
fn damage_is_answered() {
    let source = image::source();
    let whole = image::make(&source, 1024, &["-t", "ext4", "-O", "^has_journal,^metadata_csum"]);
    let places = image::metadata(&whole);
    let whole = Rc::new(whole);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let (mut good, mut bad) = (0, 0);
    for _ in 0..600 {
        let mut disk = Image::of(&whole);
        for _ in 0..=next() % 16 {
            let place = places[usize::try_from(next() % places.len() as u64).expect("small")];
            disk.changes.push((place, u8::try_from(next() & 0xff).expect("a byte")));
        }
        let tree = match block_on(Tree::open(disk)) {
            Ok(tree) => tree,
            Err(_) => continue,
        };
        for path in ["docs/read me.txt", "holes", "links/long", "links/chain", "many/file 377", "big"] {
            let before = image::reads();
            match block_on(tree.find(path.as_bytes())) {
                Ok(Node::File(file)) => {
                    let mut into = [0; 9000];
                    let at = next() % file.len().max(1);
                    match block_on(tree.read(&file, at, &mut into)) {
                        Ok(_) => good += 1,
                        Err(error) => bad += usize::from(!error.to_string().is_empty()),
                    }
                }
                Ok(Node::Directory) => {}
                Err(_) => bad += 1,
            }
            assert!(image::reads() - before < 20_000);
        }
    }
    assert!(good > 500 && bad > 200, "{good} and {bad}");
}
