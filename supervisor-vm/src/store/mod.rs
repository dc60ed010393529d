//! What the operator's VM keeps on a virtual disk of its own: records, and lines of the audit log. A power cut leaves what was there before a
//! change, or what is there behind it. Everything that is read is checked; a disk that is not as it was written is not used, and not written.

pub mod block;
pub mod extents;
pub mod history;
pub mod journal;
pub mod layout;
pub mod medium;
pub mod record;
pub mod refused;

use crate::lines::{Line, Lines};
use block::{Head, Role, Seen, look};
use history::History;
use journal::{Journal, Records};
use layout::Layout;
use medium::Medium;
use refused::{Refused, Unkept};

use alloc::boxed::Box;
use alloc::vec::Vec;
use ilwaco::disk::{BLOCK_BYTES, DiskError};

/// A block that was sealed.
struct Found {
    head: Head,
    holds: Vec<u8>,
}

/// The block of an area; `None` where nothing was written.
async fn at<M: Medium>(medium: &M, layout: &Layout, role: Role, place: u32) -> Result<Option<Found>, Refused> {
    let block = match role {
        Role::Records(side) => layout.record(side, place),
        Role::History => layout.line(place),
        Role::Beginning => 0,
    };
    let mut bytes = Box::new([0; BLOCK_BYTES]);
    match medium.read(block, &mut bytes).await {
        Ok(()) => {}
        Err(DiskError::Corrupt) => return Err(Refused::Damaged(block)),
        Err(error) => return Err(Refused::Disk(block, error)),
    }
    match look(&bytes) {
        Seen::Zeros => Ok(None),
        Seen::Sealed(head, holds) if head.store == layout.store && head.role == role && head.place == place => {
            Ok(Some(Found { head, holds: holds.to_vec() }))
        }
        _ => Err(Refused::Damaged(block)),
    }
}

/// A disk that is used.
pub struct Store<M> {
    medium: M,
    layout: Layout,
    journal: Journal,
    history: History,
    /// Whether the records on the disk are those that were appended.
    sound: bool,
}

impl<M: Medium> Store<M> {
    /// Finds what is kept on a disk. One that holds nothing but zeros is begun, as the store `chance`.
    ///
    /// # Errors
    ///
    /// [`Refused`]: nothing was written.
    pub async fn open(medium: M, chance: [u8; 16]) -> Result<(Store<M>, Records), (M, Refused)> {
        let layout = match find(&medium, chance).await {
            Ok(layout) => layout,
            Err(why) => return Err((medium, why)),
        };
        let (journal, records) = match Journal::open(&medium, &layout).await {
            Ok(found) => found,
            Err(why) => return Err((medium, why)),
        };
        let history = match History::open(&medium, &layout).await {
            Ok(history) => history,
            Err(why) => return Err((medium, why)),
        };
        // What is behind the history is for images, also where the disk has more of it than when it was begun.
        let layout = match layout.grown(medium.blocks()) {
            grown if grown == layout => layout,
            grown => match begin(&medium, &grown).await {
                Ok(()) => grown,
                Err(error) => return Err((medium, Refused::Disk(0, error))),
            },
        };
        Ok((Store { medium, layout, journal, history, sound: true }, records))
    }

    /// Keeps changes: records in order, and lines that are not there yet. They are durable then. `all` has all records that count, for when there is no
    /// more room for changes.
    ///
    /// # Errors
    ///
    /// [`Unkept`]: some of it, the first of it, is there or not. The next call tries again.
    pub async fn commit<'l>(
        &mut self,
        changed: &[Vec<u8>],
        all: impl FnOnce() -> Vec<Vec<u8>>,
        lines: impl Iterator<Item = Line<'l>>,
    ) -> Result<(), Unkept> {
        let Store { medium, layout, journal, history, sound } = self;
        let was_sound = core::mem::replace(sound, false);
        let (mut pending, mut records) = (false, Ok(()));
        if !was_sound || !changed.is_empty() {
            pending = was_sound && journal.append(medium, layout, changed).await?;
            if !pending {
                // Where there is no room for these, there is for lines.
                records = journal.rewrite(medium, layout, &all()).await;
                if !matches!(records, Ok(()) | Err(Unkept::Full(_))) {
                    return records;
                }
            }
        }
        history.append(medium, layout, lines).await?;
        if pending || history.is_dirty() {
            medium.flush().await?;
            history.settle();
        }
        *sound = records.is_ok();
        records
    }

    /// Whether the records on the disk are those that were appended.
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// The next commit writes all records anew.
    pub fn doubt(&mut self) {
        self.sound = false;
    }

    /// The lines in a block of the history, of those that count the one at this place.
    ///
    /// # Errors
    ///
    /// As [`History::read`].
    pub async fn lines(&self, index: usize) -> Result<Lines, Refused> {
        self.history.read(&self.medium, &self.layout, index).await
    }

    /// Blocks for images.
    pub fn image_blocks(&self) -> u32 {
        self.layout.images
    }

    /// Reads some of the blocks for images.
    ///
    /// # Errors
    ///
    /// The disk could not.
    pub async fn read_image(&self, places: impl Iterator<Item = u32>, file: &mut Vec<u8>) -> Result<(), DiskError> {
        let mut bytes = Box::new([0; BLOCK_BYTES]);
        for place in places {
            self.medium.read(self.layout.image(place), &mut bytes).await?;
            file.extend_from_slice(&bytes[..]);
        }
        Ok(())
    }

    /// Writes a part of a file to these blocks for images, the last one with zeros behind it. [`Store::settle_image`] makes it durable, which has to be
    /// before a record says that it is there.
    ///
    /// # Errors
    ///
    /// The disk could not.
    pub async fn write_image(&self, places: impl Iterator<Item = u32>, file: &[u8]) -> Result<(), DiskError> {
        let mut bytes = Box::new([0; BLOCK_BYTES]);
        for (place, part) in places.zip(file.chunks(BLOCK_BYTES)) {
            let (head, rest) = bytes.split_at_mut(part.len());
            head.copy_from_slice(part);
            rest.fill(0);
            self.medium.write(self.layout.image(place), &bytes).await?;
        }
        Ok(())
    }

    /// Makes durable what was written of an image.
    ///
    /// # Errors
    ///
    /// The disk could not.
    pub async fn settle_image(&self) -> Result<(), DiskError> {
        self.medium.flush().await
    }

    /// The lines that are kept.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Blocks of records that are taken, those that there are, and the generation.
    pub fn taken(&self) -> (u32, u32, u64) {
        let (taken, generation) = self.journal.taken();
        (taken, self.layout.records, generation)
    }
}

/// How a disk is divided. One of zeros is begun.
async fn find<M: Medium>(medium: &M, chance: [u8; 16]) -> Result<Layout, Refused> {
    let blocks = medium.blocks();
    let fresh = Layout::plan(chance, blocks).ok_or(Refused::Small(blocks))?;
    let mut bytes = Box::new([0; BLOCK_BYTES]);
    // What lies beyond is for images, of which only records know. Where it ends, others have their labels.
    for block in (0..fresh.blocks()).chain([blocks - 1]) {
        match medium.read(block, &mut bytes).await {
            Ok(()) => {}
            Err(DiskError::Corrupt) => return Err(Refused::Damaged(block)),
            Err(error) => return Err(Refused::Disk(block, error)),
        }
        match look(&bytes) {
            Seen::Zeros => {}
            Seen::Sealed(head, holds) if block == 0 => {
                return match Layout::of(&head, holds) {
                    Ok(layout) if layout.all() > blocks => Err(Refused::Shrunk(blocks)),
                    Ok(layout) => Ok(layout),
                    Err(0) => Err(Refused::Damaged(0)),
                    Err(version) => Err(Refused::Version(version)),
                };
            }
            // The first block of a store is gone.
            Seen::Sealed(..) if block != 0 => return Err(Refused::Damaged(0)),
            Seen::Sealed(..) | Seen::Damaged => return Err(Refused::Damaged(block)),
            Seen::Foreign => return Err(Refused::Foreign(block)),
        }
    }
    begin(medium, &fresh).await.map_err(|error| Refused::Disk(0, error))?;
    Ok(fresh)
}

async fn begin<M: Medium>(medium: &M, layout: &Layout) -> Result<(), DiskError> {
    medium.write(0, &layout.first_block()).await?;
    medium.flush().await
}

/// Writes zeros over all that a store uses of a disk.
///
/// # Errors
///
/// [`DiskError`]: what is there is still refused.
pub async fn clear<M: Medium>(medium: &M) -> Result<(), DiskError> {
    let blocks = medium.blocks();
    let zeros = Box::new([0; BLOCK_BYTES]);
    // While only some of it is gone, the rest must not pass for a store.
    medium.write(0, &block::damaged()).await?;
    medium.flush().await?;
    for block in (1..blocks.min(layout::MOST)).chain([blocks - 1]) {
        medium.write(block, &zeros).await?;
    }
    medium.flush().await?;
    medium.write(0, &zeros).await?;
    medium.flush().await
}

#[cfg(test)]
mod image_tests;
#[cfg(test)]
mod tests;
