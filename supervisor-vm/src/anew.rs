//! A disk that is not used is begun anew.

use crate::keep::{How, OPENS};
use crate::node::Node;
use crate::save::save;
use crate::store::refused::Refused;
use crate::store::{Store, clear};
use alloc::format;
use alloc::string::{String, ToString};
use chacha20::rand_core::Rng;
use ilwaco::disk::Disk;
use ilwaco::time::timeout;

/// `state begin-anew`: writes over a disk that is not used, and keeps all on it from now on.
///
/// # Errors
///
/// There is none, it is used, or it could not be used in any case.
pub async fn begin_anew(node: &Node) -> Result<String, String> {
    let keep = &node.keep;
    let (Some(disk), Some(name)) = (Disk::attached(), keep.disk.borrow().clone()) else {
        return Err("this VM has no virtual disk: disk= of its image gives it one".to_string());
    };
    match keep.how.get() {
        How::Refused(why) if why.can_be_begun_anew() => {}
        How::Refused(why) => return Err(format!("{name} cannot be used: {why}")),
        _ => return Err(format!("{name} is in use, and holds what this VM knows: there is nothing to begin anew")),
    }
    let mut chance = [0; 16];
    node.random.borrow_mut().fork().fill_bytes(&mut chance);
    let begun = async {
        clear(&disk).await.map_err(|error| Refused::Disk(0, error))?;
        let (mut store, _) = Store::open(disk, chance).await.map_err(|(_, why)| why)?;
        store.doubt();
        Ok(store)
    };
    let begun: Result<Result<_, Refused>, _> = timeout(OPENS, begun).await;
    let store = begun.unwrap_or(Err(Refused::Silent)).map_err(|why| format!("{name} cannot be used: {why}"))?;
    *keep.store.lock().await = Some(store);
    keep.how.set(How::Kept);
    save(node).await.map_err(|why| format!("{name} is begun anew, and nothing is on it yet: {why}"))?;
    Ok(format!("{name} has what this VM knows from now on\n"))
}
