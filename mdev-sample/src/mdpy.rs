//! A fixed framebuffer: what the kernel's `mdpy` sample is.
//!
//! BAR0 is the video memory and always on screen. Its format, width and height stand in a vendor capability of the
//! configuration space, where Linux's `mdpy-fb` looks for them. The plane is handed over as region 16, which shows the
//! same memory and lies beyond the regions that `GET_INFO` counts.

use vfio_gfx::abi::{PlaneKind, pci_region};
use vfio_gfx::device::{
    Backing, CONFIG_SIZE, ConfigError, ConfigSpace, Identity, Model, Platform, Region, RegionTable, Scanout,
};
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::Vram;
use vfio_gfx::plane::{Geometry, PlaneError};

/// Index of the display region, as in the kernel's mdpy (`VFIO_PCI_NUM_REGIONS` and seven more).
pub const DISPLAY_REGION: u32 = 16;

/// Where the video memory is in the device's file descriptor.
const VRAM_FD_OFFSET: u64 = 0x1000;
/// `PCI_CAP_ID_VNDR` (`linux/pci_regs.h`).
const CAP_ID_VENDOR: u8 = 0x09;
/// Bytes of the vendor capability (`samples/vfio-mdev/mdpy-defs.h`).
const CAP_LENGTH: u8 = 0x10;

/// The device model.
#[derive(Debug)]
pub struct Mdpy {
    geometry: Geometry,
    size: u64,
}

impl Mdpy {
    /// Video memory for a mode in bytes: its pixels, rounded up to a power of two.
    #[must_use]
    pub fn vram_size(width: u32, height: u32) -> u64 {
        (u64::from(width) * u64::from(height) * 4).next_power_of_two()
    }

    /// A display of this mode.
    ///
    /// # Errors
    /// [`PlaneError`] when it is no mode.
    pub fn new(width: u32, height: u32) -> Result<Self, PlaneError> {
        let geometry = Geometry::new(width, height, width.saturating_mul(4), 4)?;
        Ok(Self { geometry, size: Self::vram_size(width, height) })
    }

    /// Configuration space at power-on.
    ///
    /// # Errors
    /// [`ConfigError`] when the video memory's size cannot be a BAR.
    pub fn config(width: u32, height: u32) -> Result<ConfigSpace, ConfigError> {
        let mut capability = vec![CAP_LENGTH, 0];
        for field in [Fourcc::XRGB8888.bits(), width, height] {
            capability.extend_from_slice(&field.to_le_bytes());
        }
        ConfigSpace::new(Identity {
            id: (0x1b36, 0x000f),
            subsystem: (0x1af4, 0x1100),
            class: (0x03, 0x80, 0x00),
            revision: 1,
            command: 0x0003,
        })
        .with_memory_bar(pci_region::BAR0, Self::vram_size(width, height), true)?
        .with_capability(CAP_ID_VENDOR, &capability)
    }

    /// Its regions.
    #[must_use]
    pub fn regions(width: u32, height: u32) -> RegionTable {
        let size = Self::vram_size(width, height);
        RegionTable::new(
            pci_region::COUNT,
            vec![
                Region::new(pci_region::BAR0, size, VRAM_FD_OFFSET, Backing::Vram),
                Region::new(pci_region::CONFIG, CONFIG_SIZE, 0, Backing::Config),
                Region::new(DISPLAY_REGION, size, VRAM_FD_OFFSET, Backing::Vram),
            ],
        )
    }

    /// Paints the picture that the device shows before a guest draws: a grey gradient, black at the top.
    pub fn paint(&self, vram: &Vram) {
        let stride = u64::from(self.geometry.stride());
        for row in 0..self.geometry.height() {
            let grey = u8::try_from(row * 255 / self.geometry.height()).unwrap_or(u8::MAX);
            vram.fill(u64::from(row) * stride, stride, grey);
        }
    }
}

impl Model for Mdpy {
    fn read(&mut self, _: u32, _: u64, _: &mut [u8], _: &Platform<'_>) {}

    fn write(&mut self, _: u32, _: u64, _: &[u8], _: &Platform<'_>) {}

    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        let primary = Scanout { size: self.size, ..Scanout::primary(Fourcc::XRGB8888, self.geometry, 0) };
        (kind == PlaneKind::Primary).then_some(primary)
    }

    fn reset(&mut self, platform: &Platform<'_>) {
        self.paint(platform.vram);
    }
}

#[cfg(test)]
mod tests {
    use vfio_gfx::abi::{Interface, PlaneKind};
    use vfio_gfx::plane::Source;

    fn read_config(device: &mut vfio_gfx::device::Device, offset: u64) -> u32 {
        let mut data = [0; 4];
        device.guest_read(7, offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    #[test]
    fn the_guest_driver_finds_its_mode() {
        let mut device = crate::DeviceType::find("mdpy-xga").unwrap().create(None).unwrap();
        assert_eq!(read_config(&mut device, 0), 0x000f_1b36);
        assert_eq!(read_config(&mut device, 0x40), 0x0010_0009);
        assert_eq!(read_config(&mut device, 0x44), u32::from_le_bytes(*b"XR24"));
        assert_eq!((read_config(&mut device, 0x48), read_config(&mut device, 0x4c)), (1024, 768));
    }

    #[test]
    fn it_shows_a_gradient_in_region_16_from_the_start_and_after_reset() {
        let mut device = crate::DeviceType::find("mdpy-vga").unwrap().create(None).unwrap();
        let plane = device.query(Interface::Region, PlaneKind::Primary).unwrap().unwrap();
        assert_eq!(plane.source, Source::Region { index: 16, offset: 0 });
        assert_eq!((plane.geometry.width(), plane.size), (640, 2 << 20));
        let last_row = 479 * 2560;
        let grey = |device: &mut vfio_gfx::device::Device| {
            let mut pixel = [0; 4];
            device.read(16, last_row, &mut pixel).unwrap();
            pixel
        };
        assert_eq!(grey(&mut device), [254; 4]);
        device.guest_write(0, last_row, &[1, 2, 3, 4]).unwrap();
        assert_eq!(grey(&mut device), [1, 2, 3, 4]);
        device.reset();
        assert_eq!(grey(&mut device), [254; 4]);
        assert!(device.query(Interface::Region, PlaneKind::Cursor).unwrap().is_none());
    }
}
