//! The VMM's interrupts: message-signalled ones, and the one that asks for the device.

use vfio_gfx::abi::pci_irq;
use vfio_gfx::device::SharedDevice;
use vfio_gfx::vfio_user::Command;
use zerocopy::IntoBytes;

use super::World;
use super::bell::Bell;
use crate::input::Input;

/// Message-signalled interrupts of [`Subject::own`](crate::subject::Subject::own).
const MSI_COUNT: usize = 4;

/// `VFIO_IRQ_SET_DATA_NONE`, `_DATA_EVENTFD`; `_ACTION_TRIGGER` (vfio.h)
const DATA_NONE: u32 = 1;
const DATA_EVENTFD: u32 = 4;
const ACTION_TRIGGER: u32 = 32;

#[derive(Default)]
pub(super) struct Wires {
    msi: Bell,
    request: Bell,
    /// Which are armed.
    armed: [bool; MSI_COUNT],
    request_armed: bool,
}

impl Wires {
    /// The device raised its first message-signalled interrupt so often since the last time.
    pub(super) fn check_msi(&self, raised: u64) {
        let expected = if self.armed[0] { raised } else { 0 };
        assert_eq!(self.msi.rings(), expected, "interrupts");
        assert_eq!(self.request.rings(), 0, "nobody asked for the device");
    }

    /// The VMM or the device is gone: nobody is told any more, and nobody has an eventfd.
    pub(super) fn cut(&mut self, device: &SharedDevice) {
        let mut device = device.lock();
        (0..4).for_each(|which| device.irqs().trigger(pci_irq::MSI, which));
        device.irqs().trigger(pci_irq::REQ, 0);
        assert!(!device.request_release(), "somebody to ask");
        let Self { msi, request, .. } = std::mem::take(self);
        msi.check_cut();
        request.check_cut();
    }
}

impl World {
    pub(super) fn arm(&mut self, input: &mut Input<'_>) {
        let start = usize::from(input.byte()) % (MSI_COUNT + 1);
        let count = 1 + usize::from(input.byte()) % MSI_COUNT.saturating_sub(start).max(1);
        let (takes_away, ends) = (input.flag(), input.byte() < 32);
        let Some(vmm) = &mut self.vmm else { return };
        let is_request = start == MSI_COUNT;
        let (index, start) = if is_request { (pci_irq::REQ, 0) } else { (pci_irq::MSI, start) };
        let words = |data: u32, start: usize, count: usize| {
            [20, data | ACTION_TRIGGER, index, u32::try_from(start).unwrap(), u32::try_from(count).unwrap()]
        };
        let bell = if is_request { &self.wires.request } else { &self.wires.msi };
        let given = if takes_away { 0 } else { count };
        let fds = (0..given).map(|_| bell.wire()).collect();
        if ends {
            vmm.call(Command::SetIrqs, words(DATA_NONE, 0, 0).as_bytes()).unwrap();
        } else {
            vmm.call_with(Command::SetIrqs, words(DATA_EVENTFD, start, count).as_bytes(), fds).unwrap();
        }
        match (is_request, ends) {
            (true, _) => self.wires.request_armed = !ends && !takes_away,
            (false, true) => self.wires.armed = [false; MSI_COUNT],
            (false, false) => self.wires.armed[start..start + count].fill(!takes_away),
        }
    }

    pub(super) fn fire(&mut self, input: &mut Input<'_>) {
        let which = usize::from(input.byte()) % MSI_COUNT;
        self.device.lock().irqs().trigger(pci_irq::MSI, u32::try_from(which).unwrap());
        assert_eq!(self.wires.msi.rings(), u64::from(self.wires.armed[which]), "interrupt {which}");
    }

    /// The owner wants the device: the VMM is told if it can be.
    pub(super) fn ask_back(&mut self) {
        let is_armed = self.wires.request_armed;
        assert_eq!(self.device.lock().request_release(), is_armed);
        assert_eq!(self.wires.request.rings(), u64::from(is_armed), "the request");
    }
}
