//! From a path to a file.

use crate::blocks::Blocks;
use crate::directory;
use crate::error::Error;
use crate::inode::{File, Inode, Kind, MAP_BYTES};
use crate::tree::Tree;
use alloc::vec::Vec;

/// Bytes of a path at most, with what links put into it.
pub const LONGEST_PATH: usize = 4096;
/// Links that a path may lead through.
pub const MOST_LINKS: usize = 16;
/// Steps of a path, and directories in directories, at most.
const MOST_STEPS: usize = 256;
/// Bytes of a directory that are looked through at most: some 500,000 names.
const MOST_DIRECTORY: u64 = 16 << 20;
/// The inode of the root.
const ROOT: u32 = 2;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File(File),
    /// A directory.
    Directory,
}

impl<B: Blocks> Tree<B> {
    /// What `path` names: names with `/` between them, from the root on; a slash more in front, behind or between them changes nothing.
    ///
    /// Links are followed within the tree. One that leads out of it, as every absolute one does, names nothing.
    ///
    /// # Errors
    /// [`Error::Missing`] when it names nothing; otherwise what is on the disk is damaged, or cannot be read.
    pub async fn find(&self, path: &[u8]) -> Result<Node, Error> {
        if path.len() > LONGEST_PATH {
            return Err(Error::Missing);
        }
        // What is still to be walked, and the directories that were walked through, the last of which is where we are.
        let mut ahead = path.to_vec();
        let mut behind = Vec::from([self.root().await?]);
        let mut links = 0;
        for _ in 0..MOST_STEPS {
            let Some((name, rest)) = first(&ahead) else { return Ok(Node::Directory) };
            let (name, rest) = (name.to_vec(), rest.to_vec());
            if name == b"." {
                ahead = rest;
                continue;
            }
            if name == b".." && behind.len() > 1 {
                behind.pop();
                ahead = rest;
                continue;
            }
            let Some(directory) = behind.last().filter(|_| name != b"..") else { return Err(Error::Missing) };
            let found = self.entry(directory, &name).await?;
            match found.kind {
                Kind::Directory => behind.push(found),
                Kind::File if rest.is_empty() => return Ok(Node::File(File(found))),
                Kind::File | Kind::Special => return Err(Error::Missing),
                Kind::Link => {
                    links += 1;
                    let target = self.target(&found).await?;
                    let len = target.len() + rest.len() + 1;
                    if links > MOST_LINKS || target.starts_with(b"/") || len > LONGEST_PATH {
                        return Err(Error::Missing);
                    }
                    ahead = target;
                    ahead.extend_from_slice(&rest);
                    continue;
                }
            }
            ahead = rest;
        }
        Err(Error::Missing)
    }

    async fn root(&self) -> Result<Inode, Error> {
        let root = self.inode(ROOT).await?;
        if root.kind != Kind::Directory {
            return Err(Error::Damaged("the root is no directory", ROOT.into()));
        }
        Ok(root)
    }

    /// What a directory has under a name.
    async fn entry(&self, directory: &Inode, name: &[u8]) -> Result<Inode, Error> {
        if directory.bytes > MOST_DIRECTORY {
            return Err(Error::Unsupported(
                "a directory has more than 16 MiB of names; more than one has room for all",
            ));
        }
        let block_bytes = u64::try_from(self.superblock.block_bytes).unwrap_or(1);
        let blocks = u32::try_from(directory.bytes.div_ceil(block_bytes)).unwrap_or(u32::MAX);
        for block in 0..blocks {
            let Some(at) = self.place(directory, block).await? else { continue };
            let view = self.block(at).await?;
            if let Some(inode) = directory::look(view.bytes(), name, directory.number)? {
                return self.inode(inode).await;
            }
        }
        Err(Error::Missing)
    }

    /// Where a link leads.
    async fn target(&self, link: &Inode) -> Result<Vec<u8>, Error> {
        let len = usize::try_from(link.bytes).unwrap_or(usize::MAX);
        if len > LONGEST_PATH {
            return Err(Error::Damaged("a link leads too far", link.number.into()));
        }
        if link.is_short_link() {
            return Ok(link.map[..len.min(MAP_BYTES)].to_vec());
        }
        let mut target = Vec::from_iter(core::iter::repeat_n(0, len));
        self.read(&File(link.clone()), 0, &mut target).await?;
        Ok(target)
    }
}

/// The first name of a path, and what follows it, with the slash in between. `None`: there is none.
fn first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|&byte| byte != b'/')?;
    let path = &path[start..];
    Some(path.split_at(path.iter().position(|&byte| byte == b'/').unwrap_or(path.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_names() {
        assert_eq!(first(b"a/b"), Some((&b"a"[..], &b"/b"[..])));
        assert_eq!(first(b"//a"), Some((&b"a"[..], &b""[..])));
        assert_eq!(first(b"a/"), Some((&b"a"[..], &b"/"[..])));
        assert_eq!((first(b""), first(b"//")), (None, None));
    }
}
