//! Unplugging a device that others hold.
//!
//! A device that somebody holds cannot be destroyed under him. Its backing can be taken away: [`Device::revoke`] gives the
//! memory back at once, and from then on every operation answers `ENODEV`, for ever. What holders have mapped stays mapped and
//! reads as zeros, so nobody gets a signal; who reads pixels asks the device again before he shows them.
//!
//! Who wants the device back politely asks its VMM first ([`Device::request_release`], the interrupt `VFIO_PCI_REQ_IRQ_INDEX`),
//! and gives it some time. The states, and who sees what in each, are in the book's chapter on the life of a device.

use std::io;

use crate::abi::pci_irq;
use crate::memory::{GuestMemory, Vram};

use super::buffers::BufferTable;
use super::{Device, DeviceError, DisplayEvents};

impl Device {
    /// Whether the device was unplugged.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.is_revoked
    }

    /// What every operation asks first.
    ///
    /// # Errors
    /// [`DeviceError::Revoked`].
    pub fn check_plugged(&self) -> Result<(), DeviceError> {
        if self.is_revoked { Err(DeviceError::Revoked) } else { Ok(()) }
    }

    /// Unplugs the device, whoever holds it. When this returns the video memory is given back to the system, guest memory and
    /// the eventfds of its interrupts are let go, and every operation fails with [`DeviceError::Revoked`]: no memory is handed
    /// out any more and no buffer id is issued. Whoever waits for display changes is woken, to find that out. Doing it twice is harmless.
    ///
    /// # Errors
    /// What the system said when it was to take the memory back. The device is unplugged all the same; its memory then goes
    /// with the last that holds it.
    pub fn revoke(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_revoked, true) {
            return Ok(());
        }
        self.irqs.disarm();
        self.guest = GuestMemory::default();
        self.edid = None;
        self.cancel_flip();
        if let Some(timers) = &mut self.timers {
            timers.change.stop();
        }
        // Pages in a dma-buf stay for as long as somebody has it: let them show nothing.
        if self.buffers.have_dmabufs() {
            self.vram.clear();
        }
        let buffers = std::mem::replace(&mut self.buffers, BufferTable::new());
        let given_back =
            buffers.copies().chain([&*self.vram]).map(Vram::give_back).fold(Ok(()), io::Result::and);
        self.own_watcher = None;
        if let Some((watchers, known)) = &mut self.watchers {
            *known = Default::default();
            watchers.tell(DisplayEvents::all());
        }
        given_back
    }

    /// Lets VMMs arm the interrupt that asks them to let the device go (`VFIO_PCI_REQ_IRQ_INDEX`). For whoever serves
    /// the device and may have to take it away, before it is served; the kernel's sample drivers have no such interrupt.
    pub fn offer_release_request(&mut self) {
        self.irqs.offer(pci_irq::REQ);
    }

    /// Asks the VMM to let the device go, as `vfio_pci_core_request()` does. Returns whether it armed the interrupt: a VMM that did not
    /// has no way to know.
    pub fn request_release(&mut self) -> bool {
        let is_armed = self.irqs.is_armed(pci_irq::REQ, 0);
        self.irqs.trigger(pci_irq::REQ, 0);
        is_armed
    }
}
