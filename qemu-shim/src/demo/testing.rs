//! As little of a Bochs display as the demo guests need, with a sharp eye on what they do.

use std::fs::File;
use std::os::unix::fs::FileExt;

use vfio_gfx::format::Fourcc;

use super::{Bars, bar2, dispi, picture};
use crate::Frame;
use crate::convert::Converter;

/// What was on screen when the guest said so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shot {
    pub(super) number: u32,
    pub(super) mode: (u32, u32),
    pub(super) y_offset: u32,
    /// CRC-32 of the bytes on screen: the bytes would drown the assertion's message.
    pub(super) crc: u32,
}

/// The display. Stops the guest after a number of frames.
pub(super) struct Display {
    registers: [u16; 11],
    unblanked: bool,
    /// Registers written since the last frame, in order.
    written: Vec<u32>,
    vram: File,
    frames: u32,
    pub(super) shots: Vec<Shot>,
}

impl Display {
    pub(super) fn new(vram_size: u64, frames: u32) -> Self {
        let vram = tempfile::tempfile().unwrap();
        vram.set_len(vram_size).unwrap();
        let mut registers = [0; 11];
        registers[dispi::ID as usize] = 0xb0c5;
        registers[dispi::VIDEO_MEMORY_64K as usize] = (vram_size >> 16).try_into().unwrap();
        let (written, shots) = (Vec::new(), Vec::new());
        Self { registers, unblanked: false, written, vram, frames, shots }
    }

    pub(super) fn vram(&self) -> File {
        self.vram.try_clone().unwrap()
    }

    /// What is on screen.
    pub(super) fn screen(&self) -> Frame {
        let mut frame = Frame::new(self.register(dispi::XRES), self.register(dispi::YRES)).unwrap();
        let converter = Converter::new(Fourcc::XRGB8888).unwrap();
        converter.convert_row(&self.visible(), frame.pixels_mut());
        frame
    }

    fn visible(&self) -> Vec<u8> {
        let pitch = u64::from(4 * self.register(dispi::XRES));
        let lines = [dispi::Y_OFFSET, dispi::YRES].map(|index| u64::from(self.register(index)));
        let mut bytes = vec![0; usize::try_from(lines[1] * pitch).unwrap()];
        self.vram.read_exact_at(&mut bytes, lines[0] * pitch).unwrap();
        bytes
    }

    fn register(&self, index: u32) -> u32 {
        self.registers[index as usize].into()
    }
}

/// Something that is no Bochs display.
pub(super) fn alien() -> Display {
    let mut display = Display::new(2 << 20, 1);
    display.registers[dispi::ID as usize] = 0xb1c5;
    display
}

impl Bars for Display {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let index = (offset - u64::from(bar2::DISPI)) / 2;
        data.copy_from_slice(&self.registers[usize::try_from(index).unwrap()].to_le_bytes());
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let [byte] = data {
            assert_eq!((offset, *byte), (0x400, 0x20));
            self.unblanked = true;
            return;
        }
        let index = u32::try_from(offset - u64::from(bar2::DISPI)).unwrap() / 2;
        self.registers[index as usize] = u16::from_le_bytes(data.try_into().unwrap());
        self.written.push(index);
    }

    fn frame(&mut self, number: u32) -> bool {
        use dispi::{BPP, ENABLE, VIRT_HEIGHT, VIRT_WIDTH, X_OFFSET, XRES, Y_OFFSET, YRES};
        assert!(self.written.ends_with(&[VIRT_WIDTH, X_OFFSET, Y_OFFSET]), "{:?}", self.written);
        let mode_set = number.is_multiple_of(picture::FRAMES_PER_MODE);
        assert_eq!(self.written.len(), if mode_set { 13 } else { 3 });
        self.written.clear();

        let (width, height) = (self.register(XRES), self.register(YRES));
        let y_offset = self.register(Y_OFFSET);
        assert!(self.unblanked);
        assert_eq!([self.register(ENABLE), self.register(BPP), self.register(X_OFFSET)], [0x41, 32, 0]);
        assert_eq!([self.register(VIRT_WIDTH), self.register(VIRT_HEIGHT)], [width, 2 * height]);

        let crc = crc32fast::hash(&self.visible());
        self.shots.push(Shot { number, mode: (width, height), y_offset, crc });
        number + 1 < self.frames
    }
}
