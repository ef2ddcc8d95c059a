//! The monitor that a device tells its guest about: reading it, and exchanging it.
//!
//! A console that wants the guest to use another size unplugs the monitor, writes another EDID and plugs it in again
//! (vfio.h, `struct vfio_region_gfx_edid`). Drivers differ in what they take, so everything is read and written in the
//! one way that all of them do: aligned pieces of four bytes, the size before the blob (i915's GVT-g takes only as much
//! blob as the size says). Some ignore what they do not like (mbochs), so what was written is read back.

use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{EdidRegisters, LinkState, caps::RegionCap, pci_region};

use super::{Display, DisplayError, RegionSummary};

/// Largest EDID that is read: 256 blocks, as many as the format can count.
const MAX_EDID: u32 = 256 * BLOCK;
/// Bytes in a block of an EDID.
const BLOCK: u32 = 128;
/// Most regions of a device that are looked at.
const MAX_REGIONS: u32 = 64;

// Offsets of the registers that can be written.
const EDID_SIZE: u64 = 8;
const LINK_STATE: u64 = 20;

impl Display {
    /// The region with the EDID, if the device has one.
    ///
    /// # Errors
    /// What the transport failed with.
    pub fn edid_region(&mut self) -> Result<Option<RegionSummary>, DisplayError> {
        let count = self.backend.device()?.num_regions.min(MAX_REGIONS);
        for index in pci_region::COUNT..count {
            let region = self.backend.region(index)?;
            if region.caps.contains(&RegionCap::GFX_EDID) {
                return Ok(Some(region));
            }
        }
        Ok(None)
    }

    /// The EDID, as a guest sees it: `None` when the device has no EDID region, empty while the link is not up.
    ///
    /// # Errors
    /// What the transport failed with, or [`DisplayError::EdidRegion`] when its registers contradict the region.
    pub fn edid(&mut self) -> Result<Option<Vec<u8>>, DisplayError> {
        let Some(region) = self.edid_region()? else {
            return Ok(None);
        };
        let registers = self.edid_registers(&region)?;
        if LinkState::from_raw(registers.link_state) != Some(LinkState::Up) {
            return Ok(Some(Vec::new()));
        }
        if registers.edid_size > registers.edid_max_size || registers.edid_size > MAX_EDID {
            return Err(DisplayError::EdidRegion { region: region.index });
        }
        self.edid_blob(&region, registers.edid_offset, registers.edid_size).map(Some)
    }

    /// Exchanges the monitor for the one that `edid` describes: link down, size, blob, link up.
    ///
    /// # Errors
    /// [`DisplayError::NoEdidRegion`], [`DisplayError::EdidSize`], [`DisplayError::EdidNotKept`] when the device took
    /// the writes without effect, or what the transport failed with. Unless nothing was written (the first two), the
    /// link may be left down.
    pub fn set_edid(&mut self, edid: &[u8]) -> Result<(), DisplayError> {
        let region = self.edid_region()?.ok_or(DisplayError::NoEdidRegion)?;
        let registers = self.edid_registers(&region)?;
        let max = registers.edid_max_size;
        let size = u32::try_from(edid.len()).unwrap_or(u32::MAX);
        if size == 0 || !size.is_multiple_of(BLOCK) || size > max {
            return Err(DisplayError::EdidSize { found: edid.len(), max });
        }
        within(&region, registers.edid_offset, size)?;
        self.edid_write(&region, LINK_STATE, LinkState::Down.raw().as_bytes())?;
        self.edid_write(&region, EDID_SIZE, size.as_bytes())?;
        self.edid_write(&region, u64::from(registers.edid_offset), edid)?;
        self.edid_write(&region, LINK_STATE, LinkState::Up.raw().as_bytes())?;

        let now = self.edid_registers(&region)?;
        kept("size", size, now.edid_size)?;
        kept("link state", LinkState::Up.raw(), now.link_state)?;
        let blob = self.edid_blob(&region, registers.edid_offset, size)?;
        match edid.iter().zip(&blob).find(|(written, found)| written != found) {
            None => Ok(()),
            Some((written, found)) => kept("blob", u32::from(*written), u32::from(*found)),
        }
    }

    /// Plugs the monitor in or unplugs it; its EDID stays what it is.
    ///
    /// # Errors
    /// [`DisplayError::NoEdidRegion`], [`DisplayError::EdidNotKept`], or what the transport failed with.
    pub fn set_link(&mut self, state: LinkState) -> Result<(), DisplayError> {
        let region = self.edid_region()?.ok_or(DisplayError::NoEdidRegion)?;
        self.edid_write(&region, LINK_STATE, state.raw().as_bytes())?;
        kept("link state", state.raw(), self.edid_registers(&region)?.link_state)
    }

    /// The largest mode in pixels that the device takes a monitor for; 0 = no limit.
    ///
    /// # Errors
    /// [`DisplayError::NoEdidRegion`], or what the transport failed with.
    pub fn max_mode(&mut self) -> Result<(u32, u32), DisplayError> {
        let region = self.edid_region()?.ok_or(DisplayError::NoEdidRegion)?;
        let registers = self.edid_registers(&region)?;
        Ok((registers.max_xres, registers.max_yres))
    }

    fn edid_registers(&mut self, region: &RegionSummary) -> Result<EdidRegisters, DisplayError> {
        let mut registers = [0; size_of::<EdidRegisters>()];
        self.backend.read(region.index, 0, &mut registers)?;
        EdidRegisters::read_from_bytes(&registers)
            .map_err(|_| DisplayError::EdidRegion { region: region.index })
    }

    fn edid_blob(&mut self, region: &RegionSummary, offset: u32, size: u32) -> Result<Vec<u8>, DisplayError> {
        within(region, offset, size)?;
        let mut blob = vec![0; size as usize];
        self.backend.read(region.index, u64::from(offset), &mut blob)?;
        Ok(blob)
    }

    /// Writes in pieces of four bytes; both ends are aligned.
    fn edid_write(&mut self, region: &RegionSummary, offset: u64, data: &[u8]) -> Result<(), DisplayError> {
        for (at, piece) in (offset..).step_by(4).zip(data.chunks(4)) {
            self.backend.write(region.index, at, piece)?;
        }
        Ok(())
    }
}

/// Refuses a blob that is not in the region, or not where it can be written in aligned pieces.
fn within(region: &RegionSummary, offset: u32, size: u32) -> Result<(), DisplayError> {
    let end = u64::from(offset) + u64::from(size);
    if offset.is_multiple_of(4) && end <= region.reachable() {
        Ok(())
    } else {
        Err(DisplayError::EdidRegion { region: region.index })
    }
}

fn kept(what: &'static str, written: u32, found: u32) -> Result<(), DisplayError> {
    if written == found { Ok(()) } else { Err(DisplayError::EdidNotKept { what, written, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Interface, PlaneKind, RegionFlags};
    use crate::display::{Backend, BufferMapping, DeviceSummary, Watch};
    use crate::memory::Mapping;
    use crate::plane::Plane;
    use std::sync::{Arc, Mutex};

    /// An EDID region as strict as the three drivers together: four aligned bytes, read-only registers, and no blob
    /// beyond the size.
    #[derive(Debug)]
    struct Strict {
        words: Vec<u32>,
        writes: Vec<(u64, u32)>,
        /// Takes the writes to this offset, and forgets them.
        deaf_to: Option<u64>,
    }

    #[derive(Clone, Debug)]
    struct Device(Arc<Mutex<Strict>>);

    const SIZE: usize = 0x1000;

    impl Device {
        fn new() -> Self {
            let mut words = vec![0; SIZE / 4];
            (words[0], words[1]) = (0x800, 0x400);
            Self(Arc::new(Mutex::new(Strict { words, writes: Vec::new(), deaf_to: None })))
        }

        fn display(&self) -> Display {
            Display::open(Box::new(self.clone())).unwrap()
        }
    }

    impl Backend for Device {
        fn device(&mut self) -> Result<DeviceSummary, DisplayError> {
            let flags = crate::abi::DeviceFlags::PCI;
            Ok(DeviceSummary { flags, num_regions: 10, num_irqs: 5 })
        }
        fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError> {
            assert_eq!(index, 9);
            let caps = vec![RegionCap::GFX_EDID];
            Ok(RegionSummary { index, flags: RegionFlags::CAPS, size: SIZE as u64, caps })
        }
        fn irq_count(&mut self, _: u32) -> Result<u32, DisplayError> {
            Ok(0)
        }
        fn probe(&mut self, interface: Interface) -> Result<bool, DisplayError> {
            Ok(interface == Interface::Dmabuf)
        }
        fn query(&mut self, _: Interface, _: PlaneKind) -> Result<Option<Plane>, DisplayError> {
            Ok(None)
        }
        fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
            Ok(None)
        }
        fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
            Err(DisplayError::NotMappable { index })
        }
        fn map_buffer(&mut self, _: u32) -> Result<BufferMapping, DisplayError> {
            Err(DisplayError::NoInterface)
        }
        fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), DisplayError> {
            assert_eq!((region, offset % 4, data.len() % 4), (9, 0, 0));
            let bytes = self.0.lock().unwrap().words.as_bytes().to_vec();
            data.copy_from_slice(&bytes[usize::try_from(offset).unwrap()..][..data.len()]);
            Ok(())
        }
        fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), DisplayError> {
            let mut strict = self.0.lock().unwrap();
            let refused = Err(DisplayError::EdidRegion { region });
            let Ok(word) = data.try_into().map(u32::from_ne_bytes) else { return refused };
            match offset {
                8 | 20 => {}
                0x800.. if offset.is_multiple_of(4) && offset + 4 <= 0x800 + u64::from(strict.words[2]) => {}
                _ => return refused,
            }
            strict.writes.push((offset, word));
            if strict.deaf_to != Some(offset) {
                strict.words[usize::try_from(offset / 4).unwrap()] = word;
            }
            Ok(())
        }
    }

    #[test]
    fn the_order_is_down_size_blob_up_in_words() {
        let device = Device::new();
        let mut display = device.display();
        assert!(display.edid().unwrap().unwrap().is_empty(), "neither up nor down at first");
        let blob: Vec<u8> = (0..=255).collect();
        display.set_edid(&blob).unwrap();
        assert_eq!(display.edid().unwrap().unwrap(), blob);
        let writes = device.0.lock().unwrap().writes.clone();
        assert_eq!(writes[..2], [(20, 2), (8, 256)]);
        let offsets: Vec<u64> = writes[2..66].iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, (0x800..0x900).step_by(4).collect::<Vec<_>>());
        assert_eq!(writes[66..], [(20, 1)]);
    }

    #[test]
    fn the_link_goes_down_and_up_and_the_edid_stays() {
        let mut display = Device::new().display();
        display.set_edid(&[7; 128]).unwrap();
        display.set_link(LinkState::Down).unwrap();
        assert!(display.edid().unwrap().unwrap().is_empty());
        display.set_link(LinkState::Up).unwrap();
        assert_eq!(display.edid().unwrap().unwrap(), [7; 128]);
    }

    #[test]
    fn a_blob_may_be_as_large_as_the_device_says_and_no_larger() {
        let device = Device::new();
        let mut display = device.display();
        display.set_edid(&[5; 0x400]).unwrap();
        assert_eq!(display.edid().unwrap().unwrap(), [5; 0x400]);
        device.0.lock().unwrap().words[2] = 0x401;
        assert!(matches!(display.edid(), Err(DisplayError::EdidRegion { region: 9 })));
    }

    #[test]
    fn the_largest_mode_is_the_devices() {
        let device = Device::new();
        (device.0.lock().unwrap().words[3], device.0.lock().unwrap().words[4]) = (1920, 1200);
        assert_eq!(device.display().max_mode().unwrap(), (1920, 1200));
    }

    #[test]
    fn what_does_not_fit_is_not_begun() {
        let device = Device::new();
        for len in [0, 1, 127, 129, 0x480, 1 << 20] {
            let error = device.display().set_edid(&vec![1; len]).unwrap_err();
            let expected = matches!(error, DisplayError::EdidSize { max: 0x400, found } if found == len);
            assert!(expected, "{len}: {error}");
        }
        // A device that promises more than its region holds, and one whose blob no aligned write reaches.
        for (offset, max) in [(0x800, 0x1000), (0xfff0, 0x400), (0x802, 0x400), (u32::MAX, u32::MAX)] {
            let device = Device::new();
            (device.0.lock().unwrap().words[0], device.0.lock().unwrap().words[1]) = (offset, max);
            let error = device.display().set_edid(&vec![1; max.min(0x1000) as usize]).unwrap_err();
            assert!(matches!(error, DisplayError::EdidRegion { region: 9 }), "{offset:#x}: {error}");
            assert_eq!(device.0.lock().unwrap().writes, []);
        }
        assert_eq!(device.0.lock().unwrap().writes, []);
    }

    #[test]
    fn a_device_that_forgets_is_found_out() {
        for (offset, what) in [(8, "size"), (20, "link state"), (0x804, "blob")] {
            let device = Device::new();
            device.display().set_edid(&[1; 128]).unwrap();
            device.0.lock().unwrap().deaf_to = Some(offset);
            let mut display = device.display();
            let error = if offset == 20 {
                display.set_link(LinkState::Down).unwrap_err()
            } else {
                // Shorter in the one case, different in the other.
                device.0.lock().unwrap().words[2] = 256;
                display.set_edid(&[2; 128]).unwrap_err()
            };
            let found = matches!(error, DisplayError::EdidNotKept { what: found, .. } if found == what);
            assert!(found, "{what}: {error}");
        }
    }
}
