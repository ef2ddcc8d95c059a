//! The expansion ROM: firmware that a device brings along for the machine it is in.
//!
//! Core tier. A file that is no ROM, or is one of another device, would be passed over by every firmware without a word. So it
//! is judged here, where somebody can be told. Layout: PCI Firmware Specification 3.0, chapter 5.1 (formerly PCI Local Bus
//! Specification 3.0, chapter 6.3).

use thiserror::Error;

/// The largest ROM in bytes: what a function may ask for in its ROM base address register (PCI Local Bus Specification 3.0,
/// section 6.2.5.2).
pub const ROM_MAX: u32 = 16 << 20;
/// The smallest in bytes: the register's address begins at bit 11.
pub const ROM_MIN: u32 = 2048;

/// An image's first two bytes.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// Where an image says where its PCI data structure is, from its start.
const DATA_POINTER: usize = 0x18;
const DATA_SIGNATURE: [u8; 4] = *b"PCIR";

// Offsets in the PCI data structure.
const VENDOR: usize = 4;
const DEVICE: usize = 6;
const DEVICE_LIST: usize = 8;
const IMAGE_LENGTH: usize = 0x10;
const INDICATOR: usize = 0x15;
/// What an image's length is counted in.
const LENGTH_UNIT: usize = 512;
/// In the indicator: no image follows.
const LAST: u8 = 0x80;

/// Why a file is no expansion ROM of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RomError {
    /// More than a PCI function can have.
    #[error("{0} bytes are no expansion ROM: it has at most 16 MiB")]
    TooLarge(usize),
    /// No image begins here.
    #[error("no expansion ROM: expected the bytes 55 aa at offset {at:#x}, found {found}")]
    Signature {
        /// Bytes from the file's start.
        at: usize,
        /// What is there, as text.
        found: Found,
    },
    /// An image without a PCI data structure, as of a device on the ISA bus.
    #[error("no ROM of a PCI device: the image at offset {0:#x} has no PCI data structure (\"PCIR\")")]
    NoData(usize),
    /// An image leaves the file, or has no length.
    #[error("the ROM is cut short: its image at offset {at:#x} has {length} bytes, and the file has {file}")]
    Cut {
        /// Bytes from the file's start.
        at: usize,
        /// Bytes of the image as it says itself.
        length: usize,
        /// Bytes of the file.
        file: usize,
    },
    /// No image is for the device.
    #[error(
        "the ROM is of device {:04x}:{:04x}, and this one is {:04x}:{:04x}: no firmware would run it",
        found.0, found.1, device.0, device.1
    )]
    Foreign {
        /// Vendor and device that the first image names.
        found: (u16, u16),
        /// Vendor and device that it was to be for.
        device: (u16, u16),
    },
}

/// Two bytes of a file, if it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(Option<[u8; 2]>);

impl core::fmt::Display for Found {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some([first, second]) => write!(f, "{first:02x} {second:02x}"),
            None => f.write_str("the end of the file"),
        }
    }
}

/// An expansion ROM, padded to a size that a base address register can tell.
#[derive(Clone, PartialEq, Eq)]
pub struct Rom {
    /// The file; what follows up to the size is zeros.
    file: Vec<u8>,
    size: u32,
}

impl core::fmt::Debug for Rom {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rom").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Rom {
    /// The ROM of a device of this vendor and device id. A file whose size is no power of two is padded with zeros.
    ///
    /// # Errors
    /// [`RomError`] when it is no ROM, or when none of its images is for the device.
    pub fn new(file: Vec<u8>, device: (u16, u16)) -> Result<Self, RomError> {
        let len = u32::try_from(file.len()).ok().filter(|len| *len <= ROM_MAX);
        let len = len.ok_or(RomError::TooLarge(file.len()))?;
        check(&file, device)?;
        let size = len.max(ROM_MIN).checked_next_power_of_two().unwrap_or(ROM_MAX);
        Ok(Self { file, size })
    }

    /// Bytes with the padding: a power of two from [`ROM_MIN`] to [`ROM_MAX`].
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Reads any bytes. What lies beyond the file reads as zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut source = self.file.iter().skip(start);
        for byte in data {
            *byte = source.next().copied().unwrap_or(0);
        }
    }
}

/// Walks over the images: each is whole, and one is for the device.
fn check(file: &[u8], device: (u16, u16)) -> Result<(), RomError> {
    let (mut at, mut first, mut is_for_device) = (0, None, false);
    loop {
        let image = file.get(at..).unwrap_or(&[]);
        let signature = bytes::<2>(image, 0);
        if signature != Some(SIGNATURE) {
            return Err(RomError::Signature { at, found: Found(signature) });
        }
        let data = pointed_at(image).ok_or(RomError::NoData(at))?;
        let word = |offset| bytes(data, offset).map(u16::from_le_bytes).ok_or(RomError::NoData(at));
        let found = (word(VENDOR)?, word(DEVICE)?);
        first = first.or(Some(found));
        // Devices beyond the one that is named are in a list, which is not gone through.
        is_for_device |= found == device || (found.0 == device.0 && word(DEVICE_LIST)? != 0);
        let length = usize::from(word(IMAGE_LENGTH)?).saturating_mul(LENGTH_UNIT);
        if length == 0 || length > image.len() {
            return Err(RomError::Cut { at, length, file: file.len() });
        }
        let [indicator] = bytes(data, INDICATOR).ok_or(RomError::NoData(at))?;
        if indicator & LAST != 0 {
            break;
        }
        at = at.saturating_add(length);
    }
    match first {
        Some(found) if !is_for_device => Err(RomError::Foreign { found, device }),
        _ => Ok(()),
    }
}

/// The PCI data structure of an image, and what follows.
fn pointed_at(image: &[u8]) -> Option<&[u8]> {
    let pointer = u16::from_le_bytes(bytes(image, DATA_POINTER)?);
    image.get(usize::from(pointer)..).filter(|data| data.starts_with(&DATA_SIGNATURE))
}

fn bytes<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: (u16, u16) = (0x1234, 0x1111);

    /// An image of `units` times 512 bytes with its data structure at 0x1c.
    pub(in super::super) fn image(units: u8, id: (u16, u16), last: bool) -> Vec<u8> {
        let mut image = vec![0xcc; usize::from(units) * 512];
        image[..2].copy_from_slice(&SIGNATURE);
        image[2] = units;
        image[0x18..0x1a].copy_from_slice(&[0x1c, 0]);
        let data = &mut image[0x1c..0x34];
        data.fill(0);
        data[..4].copy_from_slice(b"PCIR");
        data[4..6].copy_from_slice(&id.0.to_le_bytes());
        data[6..8].copy_from_slice(&id.1.to_le_bytes());
        data[0x10] = units;
        data[0x15] = if last { 0x80 } else { 0 };
        image
    }

    #[test]
    fn a_rom_is_padded_to_what_a_register_can_tell() {
        let file = image(5, ID, true);
        let rom = Rom::new(file.clone(), ID).unwrap();
        assert_eq!(rom.size(), 4096);
        let mut read = vec![1; 4096];
        rom.read(0, &mut read);
        assert_eq!(read[..file.len()], file);
        assert!(read[file.len()..].iter().all(|byte| *byte == 0));
        rom.read(u64::MAX, &mut read[..2]);
        assert_eq!(read[..2], [0, 0]);
        assert_eq!(Rom::new(image(1, ID, true), ID).unwrap().size(), ROM_MIN);
        assert_eq!(Rom::new(image(4, ID, true), ID).unwrap().size(), 2048, "already one");
    }

    #[test]
    fn each_fault_is_named() {
        let refused = |file: Vec<u8>| Rom::new(file, ID).unwrap_err().to_string();
        assert!(refused(vec![]).contains("found the end of the file"));
        assert!(refused(b"MZ".repeat(600)).contains("55 aa at offset 0x0, found 4d 5a"));
        let mut isa = image(2, ID, true);
        isa[0x1c] = b'p';
        assert!(refused(isa).contains("no PCI data structure"));
        let mut beyond = image(2, ID, true);
        beyond[0x18..0x1a].fill(0xff);
        assert!(refused(beyond).contains("no PCI data structure"));
        let mut cut = image(3, ID, true);
        cut.truncate(1400);
        assert!(
            refused(cut).contains("cut short: its image at offset 0x0 has 1536 bytes, and the file has 1400")
        );
        let mut endless = image(2, ID, false);
        endless[0x1c + 0x10] = 0;
        assert!(refused(endless).contains("cut short"));
        assert!(refused(image(2, ID, false)).contains("at offset 0x400, found the end of the file"));
        let foreign = refused(image(2, (0x8086, 0x100e), true));
        assert!(foreign.contains("of device 8086:100e, and this one is 1234:1111"), "{foreign}");
        assert!(refused(vec![0; (16 << 20) + 1]).contains("at most 16 MiB"));
    }

    #[test]
    fn one_image_of_several_may_be_for_the_device() {
        for (first, second) in [((0x1234, 0x2222), ID), (ID, (0x1234, 0x2222))] {
            let mut several = image(1, first, false);
            several.extend(image(2, second, true));
            assert_eq!(Rom::new(several, ID).unwrap().size(), 2048);
        }
        let mut listed = image(1, (0x1234, 0x2222), true);
        listed[0x1c + DEVICE_LIST] = 0x40;
        assert!(Rom::new(listed, ID).is_ok(), "a list of further devices");
        let mut foreign = image(1, (0x8086, 0x1111), true);
        foreign[0x1c + DEVICE_LIST] = 0x40;
        assert!(Rom::new(foreign, ID).is_err(), "a list of another vendor's devices");
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_result(mut file in proptest::collection::vec(any::<u8>(), 0..3000), pointer in 0..3000u16, signed in any::<bool>()) {
            if signed && file.len() > 64 {
                file[..2].copy_from_slice(&SIGNATURE);
                file[0x18..0x1a].copy_from_slice(&pointer.to_le_bytes());
                if let Some(data) = file.get_mut(usize::from(pointer)..) {
                    for (slot, byte) in data.iter_mut().zip(b"PCIR") { *slot = *byte; }
                }
            }
            if let Ok(rom) = Rom::new(file, ID) {
                prop_assert!(rom.size().is_power_of_two() && (ROM_MIN..=ROM_MAX).contains(&rom.size()));
            }
        }
    }
}
