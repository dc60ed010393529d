//! A file of the tree on a virtual disk that no VM writes, which the disk component reads for this VM in parts.

use crate::disks::{blocks_of, read_part};
use crate::input::TEXT;
use crate::node::Node;
use crate::shown::{shown, shown_up_to};
use abi::disk::PART;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use file_tree::{BLOCK, Blocks, Error, Node as Found, Tree};

/// A virtual disk as a tree is read from it.
struct Source<'n> {
    node: &'n Node,
    name: &'n str,
    blocks: u64,
}

impl Blocks for Source<'_> {
    type Error = String;

    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn may_keep(&self) -> bool {
        ilwaco::has_memory_for(2 * BLOCK)
    }

    async fn read(&self, block: u64, into: &mut [u8; BLOCK]) -> Result<(), String> {
        for (part, to) in (0..).zip(into.chunks_mut(PART)) {
            let bytes = read_part(self.node, self.name, block, part).await?;
            // The last one is shorter.
            to.copy_from_slice(bytes.get(..to.len()).unwrap_or_default());
        }
        Ok(())
    }
}

/// The text of a file, of which `factor` times its bytes of memory are needed.
///
/// # Errors
///
/// There is no such virtual disk, or another VM writes it; no tree is there, or one that is damaged; there is no such file, or it is too long or no text.
pub async fn text(node: &Node, disk: &str, path: &str, factor: usize) -> Result<String, String> {
    if node.keep.is_own(disk) {
        return Err(format!(
            "{disk} is this VM's own, and has no files: name another virtual disk, as `disk list` shows them"
        ));
    }
    let blocks = blocks_of(node, disk).await?;
    let tree = Tree::open(Source { node, name: disk, blocks }).await.map_err(|error| on(disk, &error))?;
    let (shown_path, of_tree) = (shown_up_to(path, 100), |error| match error {
        Error::Missing => {
            format!("{disk} has no file `{}`: `fleet apply --disk {disk}:PATH` names another", shown(path))
        }
        error => on(disk, &error),
    });
    let Found::File(file) = tree.find(path.as_bytes()).await.map_err(of_tree)? else {
        return Err(format!("`{shown_path}` on {disk} is a directory: name a file in it"));
    };
    let len = usize::try_from(file.len()).unwrap_or(usize::MAX);
    if len > TEXT || !ilwaco::has_memory_for(factor * len) {
        return Err(format!(
            "`{shown_path}` on {disk} has {} bytes, and a fleet file {TEXT} at most: divide it",
            file.len()
        ));
    }
    let mut bytes = vec![0; len];
    let read = tree.read(&file, 0, &mut bytes).await.map_err(|error| on(disk, &error))?;
    bytes.truncate(read);
    String::from_utf8(bytes).map_err(|_| format!("`{shown_path}` on {disk} is no text in UTF-8"))
}

/// What is wrong with a virtual disk. What it says itself may be anybody's words.
fn on(disk: &str, error: &Error) -> String {
    match error {
        Error::Disk(_, why) => why.to_string(),
        error => format!("{disk}: {}", shown_up_to(&error.to_string(), 200)),
    }
}
