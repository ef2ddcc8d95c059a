//! The VMM grants memory and takes it back; the device reaches for it.

use vfio_gfx::memory::PAGE_SIZE;
use vfio_gfx::vfio_user::{Command, DmaMap, DmaUnmap};
use zerocopy::{FromBytes, IntoBytes};

use super::World;
use crate::input::Input;

impl World {
    pub(super) fn map(&mut self, input: &mut Input<'_>) {
        let page = |input: &mut Input<'_>| match input.byte() {
            few @ 0..0xf0 => u64::from(few % 32) * PAGE_SIZE,
            0xf0..0xf8 => (u64::MAX - 0xffff).wrapping_add(u64::from(input.byte() % 20) * PAGE_SIZE),
            _ => input.number64(),
        };
        let (address, size, offset) = (page(input), page(input), page(input));
        let choice = input.byte();
        let flags = match choice {
            // Mostly for both.
            0..0xe0 => [1, 2, 3, 3, 3, 3, 3, 3][usize::from(choice % 8)],
            _ => input.number(),
        };
        let which = usize::from(input.byte() % 4);
        let memory = (which < 3).then_some((which, offset));
        let Some(vmm) = &mut self.vmm else { return };
        let fds = memory.map(|(which, _)| self.ram.descriptor(which)).into_iter().collect();
        let request = DmaMap { argsz: 32, flags, offset, address, size };
        let accepted = vmm.call_with(Command::DmaMap, request.as_bytes(), fds).is_some();
        let expected = self.ram.map((address, size), flags, memory, offset);
        assert_eq!(accepted, expected, "{request:x?}");
    }

    pub(super) fn unmap(&mut self, input: &mut Input<'_>) {
        let address = match input.byte() {
            choice @ 0..0x80 => self.ram.an_address(choice),
            few @ 0x80..0xf0 => u64::from(few % 32) * PAGE_SIZE,
            _ => input.number64(),
        };
        let size = u64::from(input.byte() % 32) * PAGE_SIZE;
        let all = input.byte() < 8;
        let Some(vmm) = &mut self.vmm else { return };
        let request = DmaUnmap { argsz: 24, flags: if all { 2 } else { 0 }, address, size };
        let reply = vmm.call(Command::DmaUnmap, request.as_bytes());
        let unmapped = reply.map(|reply| DmaUnmap::read_from_prefix(&reply).unwrap().0.size);
        let expected = if all { Some(self.ram.clear()) } else { self.ram.unmap(address, size) };
        assert_eq!(unmapped, expected, "{request:x?}");
        self.memory_was_taken_back();
    }

    /// Grants are gone: nobody has a descriptor of memory that is not granted any more, and consoles may have to look.
    pub(super) fn memory_was_taken_back(&mut self) {
        self.flips.memory_was_taken_back(&mut self.device.lock());
        self.ram.check_descriptors();
    }

    /// The device reaches into its guest's memory.
    pub(super) fn reach(&mut self, input: &mut Input<'_>) {
        let address = match input.byte() {
            choice @ 0..0xc0 => self.ram.an_address(choice).saturating_add(u64::from(input.any::<u16>())),
            _ => input.number64(),
        };
        let device = self.device.lock();
        match input.byte() % 3 {
            0 => self.ram.check_read(&device, address, usize::from(input.any::<u16>())),
            1 => self.ram.check_write(&device, address, input.some_bytes(255)),
            _ => {
                let pages = u64::from(input.byte() % 40);
                self.ram.check_buffer(&device, address & !(PAGE_SIZE - 1), pages * PAGE_SIZE);
            }
        }
    }
}
