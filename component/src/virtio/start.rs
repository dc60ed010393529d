//! How a virtio device is started (section 3.1): the same for every kind of device.

use super::{Registers, Structures};
use core::fmt;

/// Registers of the common configuration (section 4.1.4.3).
pub mod reg {
    /// Which 32 features [`DEVICE_FEATURE`] shows.
    pub const DEVICE_FEATURE_SELECT: usize = 0x00;
    /// What the device offers.
    pub const DEVICE_FEATURE: usize = 0x04;
    /// Which 32 features [`DRIVER_FEATURE`] takes.
    pub const DRIVER_FEATURE_SELECT: usize = 0x08;
    /// What the driver takes.
    pub const DRIVER_FEATURE: usize = 0x0c;
    /// Message for changes of the configuration.
    pub const CONFIG_MSIX_VECTOR: usize = 0x10;
    /// See [`super::status`].
    pub const DEVICE_STATUS: usize = 0x14;
    /// Which queue the registers from here on are of.
    pub const QUEUE_SELECT: usize = 0x16;
    /// Descriptors: at most, then as many as there are.
    pub const QUEUE_SIZE: usize = 0x18;
    /// Message for what the device has used.
    pub const QUEUE_MSIX_VECTOR: usize = 0x1a;
    /// Whether the queue works.
    pub const QUEUE_ENABLE: usize = 0x1c;
    /// Where in the notifications it lies.
    pub const QUEUE_NOTIFY_OFF: usize = 0x1e;
    /// Descriptors; the rings follow, 64 bits each.
    pub const QUEUE_DESC: usize = 0x20;
}

/// Device status (section 2.1).
pub mod status {
    /// The device was noticed.
    pub const ACKNOWLEDGE: u8 = 1;
    /// Somebody can drive it.
    pub const DRIVER: u8 = 2;
    /// It may work.
    pub const DRIVER_OK: u8 = 4;
    /// The features are agreed on.
    pub const FEATURES_OK: u8 = 8;
    /// The driver has given up.
    pub const FAILED: u8 = 128;
}
use status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK};

/// Feature (section 6): virtio 1.
pub const F_VERSION_1: u64 = 1 << 32;

/// The message that the core has set up.
const MESSAGE: u16 = 0;
/// Looks at a reset, 100 microseconds apart: a device may take its time (section 2.4.2).
const LOOKS: u32 = 1000;

/// Why a device cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The device does not end its reset.
    Reset,
    /// The device does not agree on virtio 1 without further features; these it offers.
    Features(u64),
    /// A queue is too small, or the device takes no message for it.
    Queue(u16),
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Reset => out.write_str("it does not end its reset"),
            StartError::Features(offered) => write!(out, "it does not agree on virtio 1; it offers {offered:#x}"),
            StartError::Queue(index) => write!(out, "its queue {index} is too small or takes no message"),
        }
    }
}

impl<R: Registers> Structures<R> {
    /// Resets the device, which ends all its DMA whatever a former driver left it doing (section 2.4), and agrees with it on virtio 1 and
    /// those of the `wanted` features that it offers. Returns what was agreed on. `sleep` sleeps that many microseconds at least.
    ///
    /// # Errors
    /// [`StartError::Reset`], [`StartError::Features`].
    pub fn begin(&mut self, wanted: u64, mut sleep: impl FnMut(u32)) -> Result<u64, StartError> {
        let common = &mut self.common;
        common.write8(reg::DEVICE_STATUS, 0);
        let mut looks = 0;
        while common.read8(reg::DEVICE_STATUS) != 0 {
            looks += 1;
            if looks > LOOKS {
                return Err(StartError::Reset);
            }
            sleep(100);
        }
        common.write8(reg::DEVICE_STATUS, ACKNOWLEDGE);
        common.write8(reg::DEVICE_STATUS, ACKNOWLEDGE | DRIVER);
        let features = agree(common, wanted).inspect_err(|_| common.write8(reg::DEVICE_STATUS, FAILED))?;
        if self.msix {
            common.write16(reg::CONFIG_MSIX_VECTOR, MESSAGE);
        }
        Ok(features)
    }

    /// Descriptors that a queue can have; 0 when there is no such queue.
    pub fn queue_size(&mut self, index: u16) -> u16 {
        self.common.write16(reg::QUEUE_SELECT, index);
        self.common.read16(reg::QUEUE_SIZE)
    }

    /// Gives the device a queue of `count` descriptors, a power of two, not more than [`Structures::queue_size`]. `places` are the addresses at which it finds them, the available
    /// ring and the used ring. Returns the offset in `notify` at which it is told of them.
    ///
    /// # Errors
    /// [`StartError::Queue`].
    pub fn set_up_queue(&mut self, index: u16, count: u16, places: [u64; 3]) -> Result<usize, StartError> {
        let common = &mut self.common;
        common.write16(reg::QUEUE_SELECT, index);
        common.write16(reg::QUEUE_SIZE, count);
        for (place, register) in places.into_iter().zip((reg::QUEUE_DESC..).step_by(8)) {
            let [low, high] = halves(place);
            common.write32(register, low);
            common.write32(register + 4, high);
        }
        if self.msix {
            common.write16(reg::QUEUE_MSIX_VECTOR, MESSAGE);
            if common.read16(reg::QUEUE_MSIX_VECTOR) != MESSAGE {
                return Err(StartError::Queue(index));
            }
        }
        let at = usize::from(common.read16(reg::QUEUE_NOTIFY_OFF)).checked_mul(self.multiplier);
        let fits = |at: &usize| at.is_multiple_of(2) && *at <= self.notify_bytes.saturating_sub(2);
        let at = at.filter(fits).ok_or(StartError::Queue(index))?;
        common.write16(reg::QUEUE_ENABLE, 1);
        Ok(at)
    }

    /// Lets the device work: its queues are set up.
    pub fn run(&mut self) {
        self.common.write8(reg::DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }
}

/// Agrees with the device on features. Returns those.
fn agree(common: &mut impl Registers, wanted: u64) -> Result<u64, StartError> {
    let mut offered = 0;
    for half in [1, 0] {
        common.write32(reg::DEVICE_FEATURE_SELECT, half);
        offered = offered << 32 | u64::from(common.read32(reg::DEVICE_FEATURE));
    }
    let features = offered & (wanted | F_VERSION_1);
    let [low, high] = halves(features);
    for (half, bits) in [(0, low), (1, high)] {
        common.write32(reg::DRIVER_FEATURE_SELECT, half);
        common.write32(reg::DRIVER_FEATURE, bits);
    }
    common.write8(reg::DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    let agreed = common.read8(reg::DEVICE_STATUS) & FEATURES_OK != 0 && features & F_VERSION_1 != 0;
    if agreed { Ok(features) } else { Err(StartError::Features(offered)) }
}

/// The lower and the upper half.
fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}
