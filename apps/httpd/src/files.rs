//! The files that are served: those of the VM's disk, where it has one, else those in the program, where it carries some.

use crate::condition::Conditions;
use crate::entry::{Entry, Found};
use crate::path::{self, Path};
use crate::request::{self, Method, Request};
use crate::response::{self, Code};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use file_tree::{BLOCK, Blocks, Error, File, Node, Tree};
use ilwaco::disk::{Disk, DiskError};
use ilwaco::task::spawn;
use ilwaco::time::{Duration, sleep, unix_seconds};

/// How long nobody must have asked for a file until the tree's memory is given back.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);
/// What a directory is asked for.
const INDEX: &[u8] = b"/index.html";

/// What a tree is read from.
#[derive(Clone, Copy)]
enum Source {
    /// The VM's disk.
    Disk(Disk),
    /// Memory that all VMs of the image share.
    Memory(&'static [u8]),
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Source::Disk(_) => "on the disk",
            Source::Memory(_) => "in its image",
        }
    }
}

impl Blocks for Source {
    type Error = DiskError;

    fn blocks(&self) -> u64 {
        match self {
            Source::Disk(disk) => disk.blocks(),
            Source::Memory(bytes) => u64::try_from(bytes.len() / BLOCK).unwrap_or(0),
        }
    }

    fn may_keep(&self) -> bool {
        ilwaco::has_memory_for(2 * BLOCK)
    }

    async fn read(&self, block: u64, into: &mut [u8; BLOCK]) -> Result<(), DiskError> {
        match self {
            Source::Disk(disk) => disk.read(block, into).await,
            Source::Memory(bytes) => {
                let block = usize::try_from(block).ok().and_then(|block| bytes.chunks_exact(BLOCK).nth(block));
                into.copy_from_slice(block.ok_or(DiskError::OutOfRange)?);
                Ok(())
            }
        }
    }
}

/// The tree.
pub struct Files {
    source: Source,
    /// What could be opened. While it could not, each request tries anew.
    tree: RefCell<Option<Rc<Tree<Source>>>>,
    /// Somebody has asked for a file since the last look.
    used: Cell<bool>,
    /// A task looks.
    is_looked_after: Cell<bool>,
    /// The second in which a failure was logged last.
    logged: Cell<u64>,
}

impl Files {
    /// Those of the VM's disk, or without one those of the file system `carried`; `None` where there are neither. Says what they are.
    pub async fn attached(carried: Option<&'static [u8]>) -> Option<Rc<Files>> {
        let source = Disk::attached().map(Source::Disk).or(carried.map(Source::Memory))?;
        let files = Rc::new(Files {
            source,
            tree: RefCell::new(None),
            used: Cell::new(false),
            is_looked_after: Cell::new(false),
            logged: Cell::new(0),
        });
        match files.tree().await {
            Ok(_) => ilwaco::println!("httpd: serving the files {}", source.name()),
            Err(error) => ilwaco::println!("httpd: the files {}: {error}", source.name()),
        }
        Some(files)
    }

    async fn tree(&self) -> Result<Rc<Tree<Source>>, Error> {
        if let Some(tree) = &*self.tree.borrow() {
            return Ok(tree.clone());
        }
        let tree = Rc::new(Tree::open(self.source).await?);
        self.tree.replace(Some(tree.clone()));
        Ok(tree)
    }

    /// What the tree has for a request that was read at the start of `input`. `Ok(None)`: nothing.
    ///
    /// # Errors
    /// The code of the answer: the path is none, a condition does not hold, or the disk is not as it should be.
    pub async fn answer(self: &Rc<Files>, request: &Request<'_>, input: &[u8]) -> Result<Option<Box<Found>>, Code> {
        if !matches!(request.method, Method::Get | Method::Head) {
            return Ok(None);
        }
        let Some(path) = path::of(request.path).map_err(|_| response::BAD_REQUEST)? else { return Ok(None) };
        self.look_after();
        let found = match self.find(&path).await {
            Ok(found) => found,
            Err(Error::Missing) => return Ok(None),
            Err(error) => {
                self.log(request.path, &error);
                return Err(response::INTERNAL_ERROR);
            }
        };
        let Some(entry) = found else {
            return Ok(Some(Box::new(Found::Moved(path.location(request::query(input))))));
        };
        let conditions = match request.is_conditional {
            true => request::conditions(input),
            false => Conditions::default(),
        };
        // Only GET knows parts (RFC 9110, section 14.2).
        let range = conditions.range.filter(|_| request.method == Method::Get);
        let verdict = Conditions { range, ..conditions }.judge(&entry.etag, entry.changed, entry.len());
        Ok(Some(Box::new(Found::File(entry, verdict))))
    }

    /// The file at a path, or the index of the directory there. `None`: a directory is meant, and its slash is missing.
    async fn find(&self, path: &Path) -> Result<Option<Entry>, Error> {
        let tree = self.tree().await?;
        match tree.find(&path.bytes).await? {
            Node::File(_) if path.is_directory => Err(Error::Missing),
            Node::File(file) => Ok(Some(Entry::new(file, &path.bytes, tree.id()))),
            Node::Directory if !path.is_directory => Ok(None),
            Node::Directory => match tree.find(&[&path.bytes, INDEX].concat()).await? {
                Node::File(file) => Ok(Some(Entry::new(file, INDEX, tree.id()))),
                Node::Directory => Err(Error::Missing),
            },
        }
    }

    /// Reads the bytes of a file from `offset` on, as many as `into` takes. False: that cannot be, and was logged.
    pub async fn read(self: &Rc<Files>, file: &File, offset: u64, into: &mut [u8]) -> bool {
        self.look_after();
        let read = match self.tree().await {
            Ok(tree) => tree.read(file, offset, into).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(len) => len == into.len(),
            Err(error) => {
                self.log("a file's content", &error);
                false
            }
        }
    }

    /// Logs a failure, one a second.
    fn log(&self, what: &str, error: &Error) {
        let second = unix_seconds();
        if self.logged.replace(second) != second {
            log::warn!("{what}: {error}");
        }
    }

    /// Sees to it that memory is given back when nobody asks any more.
    fn look_after(self: &Rc<Files>) {
        self.used.set(true);
        if self.is_looked_after.replace(true) {
            return;
        }
        let files = self.clone();
        let look = async move {
            while files.used.replace(false) {
                sleep(FORGOTTEN_AFTER).await;
            }
            if let Some(tree) = &*files.tree.borrow() {
                tree.forget();
            }
            files.is_looked_after.set(false);
        };
        if spawn(look).is_err() {
            // There are too many tasks just now; the next request tries again.
            self.is_looked_after.set(false);
        }
    }
}
