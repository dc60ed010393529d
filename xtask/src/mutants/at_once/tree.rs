//! A copy of the repository's files that can be changed.

use crate::error::{Context, Result};
use crate::workspace::{output, root};
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Tree {
    folder: PathBuf,
}

impl Tree {
    /// Copies all files that are in the repository, or would be with the next commit, as they are now to `folder`. What has not
    /// changed since the last copy stays, so that cargo need not build it again.
    pub fn copy(folder: PathBuf) -> Result<Tree> {
        let mut list = Command::new("git");
        list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
        let tree = Tree { folder };
        for file in output(&mut list)?.split_terminator('\0').map(Path::new) {
            // One that was deleted is in the list until the next commit.
            if root().join(file).is_file() {
                tree.restore(file)?;
            }
        }
        Ok(tree)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes `file` what it is in the repository.
    pub fn restore(&self, file: &Path) -> Result<()> {
        let (from, to) = (root().join(file), self.folder.join(file));
        let why = || format!("cannot copy {} to {}", from.display(), to.display());
        let bytes = std::fs::read(&from).context(why)?;
        if std::fs::read(&to).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        std::fs::create_dir_all(to.parent().unwrap_or(&self.folder)).context(why)?;
        std::fs::write(&to, bytes).context(why)
    }

    /// Adds `text` to the end of `file`.
    pub fn append(&self, file: &Path, text: &str) -> Result<()> {
        let path = self.folder.join(file);
        let why = || format!("cannot change {}", path.display());
        let mut whole = std::fs::read_to_string(&path).context(why)?;
        whole.push_str(text);
        std::fs::write(&path, whole).context(why)
    }
}
