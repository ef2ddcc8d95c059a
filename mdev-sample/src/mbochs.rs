//! A Bochs display: what the kernel's `mbochs` sample is, and what guests need that it lacks.
//!
//! BAR0 is the video memory; BAR2 is a window of registers (offsets as in QEMU's docs/specs/standard-vga.rst):
//!
//! | BAR2 offset | what |
//! |---|---|
//! | 0x000-0x3ff | the EDID, while the link is up |
//! | 0x400-0x41f | the VGA ports 0x3c0-0x3df; only 0x3c0 does something: blanking |
//! | 0x500-0x515 | the [`dispi`](crate::dispi) registers, 16 bits each |
//! | 0x600-0x607 | qext: its size (8), and the byte order |
//!
//! An access of any length is carried out in naturally aligned pieces of at most four bytes, as in the kernel's mbochs: four
//! bytes at 0x502 are XRES and YRES, while four at 0x504 are one piece, which no 16-bit register answers to.
//!
//! The kernel's mbochs has PCI revision 1, for which bochs-drm does not look at qext; ours has 2.

use std::time::Duration;

use vfio_gfx::abi::caps::RegionCap;
use vfio_gfx::abi::{PlaneKind, pci_region};
use vfio_gfx::device::{
    Backing, CONFIG_SIZE, ConfigError, ConfigSpace, EDID_REGION_SIZE, EdidRegion, Identity, Model, Platform,
    Region, RegionTable, Scanout,
};

use crate::dispi::{ByteOrder, Dispi, Effect};
use crate::pieces::pieces;

/// Size of BAR2 in bytes.
pub const MMIO_SIZE: u64 = 0x1000;
/// Index of the EDID region: the first device-specific one.
pub const EDID_REGION: u32 = pci_region::COUNT;

// Where the regions are in the device's file descriptor, as in the kernel's mbochs.
const MMIO_FD_OFFSET: u64 = 0x1000;
const EDID_FD_OFFSET: u64 = 0x2000;
const VRAM_FD_OFFSET: u64 = 0x3000;

const EDID_WINDOW_END: u64 = 0x400;
const VGA_ATTRIBUTE: u64 = 0x400;
/// The attribute controller's "palette address source": set, the screen is driven; clear, it is blank.
const VGA_ATTRIBUTE_SCREEN_ON: u8 = 0x20;
const DISPI_START: u64 = 0x500;
const QEXT_SIZE: u64 = 0x600;
const QEXT_BYTE_ORDER: u64 = 0x604;

/// A clock that does not run backwards.
pub type Clock = Box<dyn Fn() -> Duration + Send>;

/// The device model.
pub struct Mbochs {
    dispi: Dispi,
    blank: bool,
    byte_order: ByteOrder,
    clock: Clock,
}

impl std::fmt::Debug for Mbochs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mbochs")
            .field("dispi", &self.dispi)
            .field("blank", &self.blank)
            .finish_non_exhaustive()
    }
}

impl Mbochs {
    /// A display with this much video memory, in bytes, and this largest mode in pixels (0 = no limit).
    #[must_use]
    pub fn new(vram_size: u64, max: (u32, u32), clock: Clock) -> Self {
        Self { dispi: Dispi::new(vram_size, max), blank: false, byte_order: ByteOrder::Little, clock }
    }

    /// Whether the screen is blanked.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.blank
    }

    /// Configuration space at power-on.
    ///
    /// # Errors
    /// [`ConfigError`] when the video memory's size cannot be a BAR.
    pub fn config(vram_size: u64) -> Result<ConfigSpace, ConfigError> {
        ConfigSpace::new(Identity {
            id: (0x1234, 0x1111),
            subsystem: (0x1af4, 0x1100),
            class: (0x03, 0x80, 0x00),
            revision: 2,
            command: 0x0003,
        })
        .with_memory_bar(pci_region::BAR0, vram_size, true)?
        .with_memory_bar(pci_region::BAR2, MMIO_SIZE, false)
    }

    /// Its regions.
    #[must_use]
    pub fn regions(vram_size: u64) -> RegionTable {
        RegionTable::new(
            EDID_REGION + 1,
            vec![
                Region::new(pci_region::BAR0, vram_size, VRAM_FD_OFFSET, Backing::Vram),
                Region::new(pci_region::BAR2, MMIO_SIZE, MMIO_FD_OFFSET, Backing::Trapped),
                Region::new(pci_region::CONFIG, CONFIG_SIZE, 0, Backing::Config),
                Region::new(EDID_REGION, EDID_REGION_SIZE, EDID_FD_OFFSET, Backing::Edid)
                    .with_caps(&[RegionCap::GFX_EDID]),
            ],
        )
    }
}

/// The register that a 16-bit piece reaches. Other widths reach none, as in the kernel's mbochs.
fn dispi_register(offset: u64, len: usize) -> Option<usize> {
    let inside = offset.checked_sub(DISPI_START)?;
    let register = usize::try_from(inside / 2).ok()?;
    (len == 2 && inside.is_multiple_of(2) && register < crate::dispi::REGISTERS).then_some(register)
}

fn read_edid_window(edid: Option<&EdidRegion>, offset: u64, data: &mut [u8]) {
    let visible = edid.map_or(&[][..], EdidRegion::visible);
    let window = usize::try_from(offset).ok().and_then(|start| visible.get(start..)).unwrap_or(&[]);
    for (byte, edid) in data.iter_mut().zip(window) {
        *byte = *edid;
    }
}

impl Mbochs {
    fn read_piece(&self, offset: u64, data: &mut [u8], platform: &Platform<'_>) {
        if offset < EDID_WINDOW_END {
            read_edid_window(platform.edid, offset, data);
        } else if let Some(register) = dispi_register(offset, data.len()) {
            data.copy_from_slice(&self.dispi.read(register).to_le_bytes());
        } else if data.len() == 4 {
            match offset {
                QEXT_SIZE => data.copy_from_slice(&8u32.to_le_bytes()),
                QEXT_BYTE_ORDER => data.copy_from_slice(&self.byte_order.raw().to_le_bytes()),
                _ => {}
            }
        }
    }

    fn write_piece(&mut self, offset: u64, data: &[u8], platform: &Platform<'_>) {
        if offset == VGA_ATTRIBUTE
            && let Some(index) = data.first()
        {
            // The port alternates between index and data; a read of 0x3da makes it index again. Drivers of this window
            // write an index only (bochs-drm after that read, SeaBIOS without), so every write counts as one.
            self.blank = index & VGA_ATTRIBUTE_SCREEN_ON == 0;
        } else if let (Some(register), [low, high]) = (dispi_register(offset, data.len()), data) {
            let value = u16::from_le_bytes([*low, *high]);
            if let Effect::Clear(len) = self.dispi.write(register, value, (self.clock)()) {
                platform.vram.fill(0, len, 0);
            }
        } else if let (QEXT_BYTE_ORDER, Ok(raw)) = (offset, data.try_into().map(u32::from_le_bytes))
            && let Some(order) = ByteOrder::from_raw(raw)
        {
            self.byte_order = order;
        }
    }
}

impl Model for Mbochs {
    fn read(&mut self, _: u32, offset: u64, data: &mut [u8], platform: &Platform<'_>) {
        for (place, range) in pieces(offset, data.len()) {
            if let Some(piece) = data.get_mut(range) {
                self.read_piece(place, piece, platform);
            }
        }
    }

    fn write(&mut self, _: u32, offset: u64, data: &[u8], platform: &Platform<'_>) {
        for (place, range) in pieces(offset, data.len()) {
            if let Some(piece) = data.get(range) {
                self.write_piece(place, piece, platform);
            }
        }
    }

    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        if kind != PlaneKind::Primary || self.blank {
            return None;
        }
        let (geometry, offset) = self.dispi.scanout(&self.clock)?;
        Some(Scanout::primary(self.byte_order.format(), geometry, offset))
    }

    fn changes_in(&mut self) -> Option<Duration> {
        self.dispi.settles_in(&self.clock)
    }

    fn reset(&mut self, _: &Platform<'_>) {
        self.dispi.reset();
        self.blank = false;
        self.byte_order = ByteOrder::Little;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vfio_gfx::abi::Interface;
    use vfio_gfx::device::Device;
    use vfio_gfx::format::Fourcc;

    fn device() -> Device {
        crate::DeviceType::find("mbochs-medium").unwrap().create(None).unwrap()
    }

    fn write16(device: &mut Device, register: u64, value: u16) {
        device.guest_write(2, DISPI_START + 2 * register, &value.to_le_bytes()).unwrap();
    }

    fn set_mode(device: &mut Device, width: u16, height: u16) {
        for (register, value) in [(4, 0), (3, 32), (1, width), (2, height), (4, 0x41)] {
            write16(device, register, value);
        }
    }

    fn format(device: &mut Device) -> Option<Fourcc> {
        device.query(Interface::Dmabuf, PlaneKind::Primary).unwrap().map(|plane| plane.format)
    }

    fn read32(device: &mut Device, offset: u64) -> u32 {
        let mut data = [0; 4];
        device.guest_read(2, offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    #[test]
    fn the_edid_window_follows_the_edid_region() {
        let mut device = device();
        let edid = device.visible_edid().to_vec();
        assert!(edid.len() >= 128 && edid.len().is_multiple_of(128));
        let mut window = vec![0xee; 0x400];
        device.guest_read(2, 0, &mut window).unwrap();
        assert_eq!(window[..edid.len()], edid);
        assert!(window[edid.len()..].iter().all(|byte| *byte == 0));
        device.write(EDID_REGION, 20, &2u32.to_ne_bytes()).unwrap();
        assert_eq!(read32(&mut device, 0), 0, "link down");
    }

    #[test]
    fn blanking_turns_the_plane_off_and_on() {
        let mut device = device();
        set_mode(&mut device, 1024, 768);
        assert_eq!(format(&mut device), Some(Fourcc::XRGB8888));
        device.guest_write(2, VGA_ATTRIBUTE, &[0]).unwrap();
        assert_eq!(format(&mut device), None);
        device.guest_write(2, VGA_ATTRIBUTE, &[0x20]).unwrap();
        assert_eq!(format(&mut device), Some(Fourcc::XRGB8888));
    }

    #[test]
    fn both_byte_orders_are_told_in_the_format() {
        let mut device = device();
        set_mode(&mut device, 1024, 768);
        assert_eq!((read32(&mut device, QEXT_SIZE), read32(&mut device, QEXT_BYTE_ORDER)), (8, 0x1e1e_1e1e));
        device.guest_write(2, QEXT_BYTE_ORDER, &0xbebe_bebeu32.to_le_bytes()).unwrap();
        assert_eq!(format(&mut device), Some(Fourcc::BGRX8888));
        device.guest_write(2, QEXT_BYTE_ORDER, &7u32.to_le_bytes()).unwrap();
        assert_eq!(format(&mut device), Some(Fourcc::BGRX8888), "nonsense selects nothing");
        device.reset();
        set_mode(&mut device, 1024, 768);
        assert_eq!(format(&mut device), Some(Fourcc::XRGB8888));
    }

    #[test]
    fn long_accesses_reach_the_registers_that_their_pieces_do() {
        let mut device = device();
        device.guest_write(2, 0x502, &[0x20, 3, 0x58, 2]).unwrap();
        let mut registers = [0; 8];
        device.guest_read(2, 0x502, &mut registers).unwrap();
        assert_eq!(
            registers,
            [0x20, 3, 0, 0, 0, 0, 0, 0],
            "two bytes, four, which are no register's, and two"
        );
        assert_eq!(read32(&mut device, 0x502), 0x0258_0320);
        assert_eq!(read32(&mut device, 0x504), 0);
        device.guest_write(2, 0x504, &[0xff; 4]).unwrap();
        assert_eq!(read32(&mut device, 0x502), 0x0258_0320);
        device.guest_write(2, 0x3fc, &[0; 8]).unwrap();
        set_mode(&mut device, 800, 600);
        assert_eq!(format(&mut device), None, "the second four bytes blank the screen");
    }

    #[test]
    fn registers_are_inert_while_memory_decoding_is_off() {
        let mut device = device();
        device.guest_write(7, 4, &[0, 0]).unwrap();
        set_mode(&mut device, 1024, 768);
        assert_eq!(read32(&mut device, DISPI_START), u32::MAX);
        assert_eq!(format(&mut device), None);
        device.guest_write(7, 4, &[2, 0]).unwrap();
        set_mode(&mut device, 1024, 768);
        assert!(format(&mut device).is_some());
    }

    #[test]
    fn a_mode_set_clears_the_screen() {
        let mut device = device();
        device.vram().fill(0, 1 << 20, 0xaa);
        set_mode(&mut device, 64, 64);
        let mut bytes = [1; 2];
        device.vram().read(64 * 64 * 4 - 1, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 0xaa]);
    }

    proptest! {
        #[test]
        fn any_access_of_any_width_has_a_result(accesses in proptest::collection::vec(
            (any::<bool>(), 0..0x1000u64, proptest::collection::vec(any::<u8>(), 1..9)), 0..60)) {
            let mut device = device();
            set_mode(&mut device, 640, 480);
            for (write, offset, mut data) in accesses {
                let offset = offset.min(0x1000 - 8);
                let result = if write { device.guest_write(2, offset, &data) } else { device.guest_read(2, offset, &mut data) };
                prop_assert!(result.is_ok());
                for kind in PlaneKind::ALL {
                    if let Some(plane) = device.query(Interface::Dmabuf, kind).unwrap() {
                        prop_assert!(plane.check_within(u64::from(plane.size)).is_ok());
                    }
                }
            }
        }
    }
}
