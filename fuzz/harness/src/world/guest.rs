//! What the guest does, and what its planes in its own memory must then be.

use vfio_gfx::device::Device;
use vfio_gfx::memory::PAGE_SIZE;
use vfio_gfx::vfio_user::{Command, RegionAccess};
use zerocopy::IntoBytes;

use super::World;
use super::ram::Ram;
use crate::input::Input;
use crate::subject::{COMMIT, PLANE_REGISTERS};

/// Registers of a plane that can be written, and the one that says what became of it.
const REGISTERS: usize = 14;
const STATE: u64 = 0x38;
/// Formats with their bytes per pixel; the last is none that a plane can have.
const FORMATS: [([u8; 4], u32); 5] =
    [(*b"XR24", 4), (*b"AR24", 4), (*b"RG16", 2), (*b"RG24", 3), (*b"NV12", 0)];

/// A plane in guest memory, as its registers have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) start: u64,
    pub(super) stride: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) format: [u8; 4],
    bytes_per_pixel: u32,
}

impl Frame {
    /// Whether there can be such a plane, wherever it is.
    fn is_possible(&self) -> bool {
        let has_pixels = self.bytes_per_pixel > 0 && self.width > 0 && self.height > 0;
        has_pixels && self.start.checked_add(self.extent()).is_some()
    }

    /// Bytes to behind its last pixel.
    fn extent(&self) -> u64 {
        u64::from(self.stride) * u64::from(self.height - 1)
            + u64::from(self.width) * u64::from(self.bytes_per_pixel)
    }

    /// Its whole pages: first byte and length.
    pub(super) fn pages(&self) -> (u64, u64) {
        let first = self.start - self.start % PAGE_SIZE;
        (first, (self.start + self.extent() - first).next_multiple_of(PAGE_SIZE))
    }
}

/// The planes in effect that are on and in guest memory.
#[derive(Default)]
pub(super) struct Guest {
    staged: [Option<Frame>; 3],
    live: [Option<Frame>; 3],
}

impl Guest {
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(super) fn primary(&self) -> Option<&Frame> {
        self.live[0].as_ref()
    }

    /// STATE says whether the memory is there: all of it since the commit.
    pub(super) fn check(&self, device: &mut Device, ram: &Ram) {
        for (which, frame) in (0..).zip(&self.live) {
            let state = read_register(device, PLANE_REGISTERS + 0x40 * which + STATE);
            let Some(frame) = frame else {
                assert_ne!(state, 3, "guest memory of a plane that has none");
                continue;
            };
            let expected = if ram.is_shown(usize::try_from(which).unwrap()) { 1 } else { 3 };
            assert_eq!(state, expected, "plane {which}: {frame:x?}");
        }
    }
}

pub(super) fn read_register(device: &mut Device, offset: u64) -> u32 {
    let mut register = [0; 4];
    device.read(2, offset, &mut register).unwrap();
    u32::from_le_bytes(register)
}

impl World {
    /// The guest writes through its VMM; without one there is none.
    fn guest_write(&mut self, region: u32, offset: u64, data: &[u8]) {
        if let Some(vmm) = &mut self.vmm {
            let count = u32::try_from(data.len()).unwrap();
            let access = RegionAccess { offset, region, count };
            vmm.call(Command::RegionWrite, &[access.as_bytes(), data].concat());
        }
    }

    /// Draws into video memory, or into its own.
    pub(super) fn draw(&mut self, input: &mut Input<'_>) {
        let (place, offset) = (input.byte(), u64::from(input.number()));
        let bytes = input.some_bytes(64);
        if place < 0x80 {
            self.guest_write(0, offset, bytes);
        } else if self.vmm.is_some() {
            self.ram.draw(usize::from(place % 3), offset, bytes);
        }
    }

    pub(super) fn set_mode(&mut self, input: &mut Input<'_>) {
        // Small ones mostly: a console looks at all of it.
        let side = |input: &mut Input<'_>| if input.flag() { u16::from(input.byte()) } else { input.any() };
        let (width, height) = (side(input), side(input));
        for (register, value) in [(4, 0), (3, 32), (1, width), (2, height), (4, 0x81u16)] {
            self.guest_write(2, 0x500 + 2 * register, &value.to_le_bytes());
        }
    }

    pub(super) fn set_base(&mut self, input: &mut Input<'_>) {
        let register = 0x500 + 2 * u64::from(input.byte() % 11);
        self.guest_write(2, register, &input.any::<u16>().to_le_bytes());
    }

    /// Any plane, mostly one that fits the memory that it is in, and the flip to it.
    pub(super) fn set_plane(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let which = usize::from(choice % 3);
        let (format, bytes_per_pixel) = input.pick(&FORMATS);
        let (width, height) = (u32::from(input.byte()), u32::from(input.byte()));
        let stride = width * 4 + u32::from(input.byte());
        let is_guests = choice >= 0x60;
        let (start, rest) = if is_guests {
            let start = self.ram.an_address(input.byte()).wrapping_add(u64::from(input.any::<u16>()));
            // No source offset: `start` says it all.
            (start, [input.number(), input.number(), u32::MAX, u32::MAX, 0, 0])
        } else {
            (u64::from(input.number()), [(); 6].map(|()| input.number()))
        };
        let on = !input.byte().is_multiple_of(4);
        if self.vmm.is_none() {
            return;
        }
        let halves = [start & 0xffff_ffff, start >> 32].map(|half| u32::try_from(half).unwrap());
        let registers =
            [u32::from(on), u32::from_le_bytes(format), halves[0], halves[1], stride, width, height];
        let registers = registers.into_iter().chain(rest).chain([u32::from(is_guests)]);
        assert_eq!(registers.clone().count(), REGISTERS);
        for (offset, value) in (PLANE_REGISTERS + 0x40 * which as u64..).step_by(4).zip(registers) {
            self.guest_write(2, offset, &value.to_le_bytes());
        }
        let frame = Frame { start, stride, width, height, format, bytes_per_pixel };
        self.guest.staged[which] = Some(frame).filter(|frame| on && is_guests && frame.is_possible());
        self.commit();
    }

    /// A flip, to whatever the registers say.
    pub(super) fn commit(&mut self) {
        if self.vmm.is_none() {
            return;
        }
        self.guest_write(2, COMMIT, &[0; 4]);
        self.flips.commit();
        // What is asked for from now on is another frame, also where it is the same plane.
        self.copies.forget();
        self.guest.live = self.guest.staged;
        for (which, frame) in self.guest.live.iter().enumerate() {
            self.ram.show(which, frame.as_ref().map(Frame::pages));
        }
    }

    /// INTERRUPTS and ENABLE.
    pub(super) fn set_interrupts(&mut self, input: &mut Input<'_>) {
        let (is_enable, what) = (input.flag(), u32::from(input.byte()));
        if self.vmm.is_none() {
            return;
        }
        let register = if is_enable { COMMIT + 0x14 } else { COMMIT + 0x10 };
        self.guest_write(2, register, &what.to_le_bytes());
        if is_enable { self.flips.enable(what) } else { self.flips.acknowledge(what) }
    }
}
