//! One device, many holders.
//!
//! The lock is the whole of the concurrency of a device: whoever asks, maps, exports or revokes holds it. What is done without
//! it is reading and writing video memory through a mapping; who does that asks again afterwards, and believes what he
//! read only if the device is still there. `cargo xtask models` runs this with every interleaving that it can think of,
//! on locks that are made for it (`cfg(shuttle)`).

#[cfg(shuttle)]
use shuttle::sync::{Mutex, MutexGuard};
use std::sync::{Arc, PoisonError};
#[cfg(not(shuttle))]
use std::sync::{Mutex, MutexGuard};

use super::Device;

/// A device that several parties hold: its server, a console in this process, a control thread.
#[derive(Clone, Debug)]
pub struct SharedDevice(Arc<Mutex<Device>>);

impl SharedDevice {
    /// Shares a device.
    #[must_use]
    pub fn new(device: Device) -> Self {
        Self(Arc::new(Mutex::new(device)))
    }

    /// Exclusive use of the device. A party that panicked while it held the device leaves it usable: every operation
    /// keeps it valid at each step.
    pub fn lock(&self) -> MutexGuard<'_, Device> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
