//! The device types, as the kernel's sample drivers list them in sysfs.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use thiserror::Error;
use vfio_gfx::abi::pci_region;
use vfio_gfx::device::{ConfigError, Device, DeviceSpec, EdidRegion, Interfaces, Model};
use vfio_gfx::edid::{self, Config, Mode};
use vfio_gfx::memory::{Vram, VramError};
use vfio_gfx::plane::PlaneError;

use crate::mbochs::{Clock, Mbochs};
use crate::mdpy::{DISPLAY_REGION, Mdpy};
use crate::vgfx::Vgfx;

/// What a type is made of.
#[derive(Clone, Copy, Debug)]
enum Make {
    /// A fixed mode.
    Mdpy { width: u32, height: u32 },
    /// Megabytes of video memory; the largest mode (0 = no limit) and the one a guest is to choose.
    Mbochs { megabytes: u64, max: (u32, u32), preferred: (u32, u32) },
    /// Megabytes of video memory; the largest mode, which is also the one a guest is to choose.
    Vgfx { megabytes: u64, max: (u32, u32) },
}

/// A device type.
#[derive(Clone, Copy, Debug)]
pub struct DeviceType {
    name: &'static str,
    description: &'static str,
    available_instances: u32,
    make: Make,
}

/// The six types of the kernel's mdpy and mbochs, with their names, descriptions and instance counts, and ours.
pub const TYPES: [DeviceType; 9] = [
    mdpy("mdpy-vga", "virtual display, 640x480 framebuffer", 640, 480),
    mdpy("mdpy-xga", "virtual display, 1024x768 framebuffer", 1024, 768),
    mdpy("mdpy-hd", "virtual display, 1920x1080 framebuffer", 1920, 1080),
    mbochs("mbochs-small", "virtual display, 4 MB video memory", 64, 4, (800, 600), (800, 600)),
    mbochs("mbochs-medium", "virtual display, 16 MB video memory", 16, 16, (1920, 1440), (1024, 768)),
    mbochs("mbochs-large", "virtual display, 64 MB video memory", 4, 64, (0, 0), (1024, 768)),
    vgfx("vgfx-hd", "virtual display with overlay and cursor planes, up to 1920x1080", 8, 32, (1920, 1080)),
    vgfx("vgfx-qhd", "virtual display with overlay and cursor planes, up to 2560x1440", 4, 64, (2560, 1440)),
    vgfx("vgfx-uhd", "virtual display with overlay and cursor planes, up to 3840x2160", 2, 128, (3840, 2160)),
];

const fn mdpy(name: &'static str, description: &'static str, width: u32, height: u32) -> DeviceType {
    DeviceType { name, description, available_instances: 4, make: Make::Mdpy { width, height } }
}

const fn mbochs(
    name: &'static str,
    description: &'static str,
    available_instances: u32,
    megabytes: u64,
    max: (u32, u32),
    preferred: (u32, u32),
) -> DeviceType {
    DeviceType { name, description, available_instances, make: Make::Mbochs { megabytes, max, preferred } }
}

const fn vgfx(
    name: &'static str,
    description: &'static str,
    available_instances: u32,
    megabytes: u64,
    max: (u32, u32),
) -> DeviceType {
    DeviceType { name, description, available_instances, make: Make::Vgfx { megabytes, max } }
}

/// A type in sysfs' words, for `types --json`.
#[derive(Serialize)]
struct Attributes<'a> {
    r#type: &'a str,
    name: &'a str,
    description: &'a str,
    device_api: &'a str,
    available_instances: String,
}

/// A name that is none of [`TYPES`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown device type {0:?}; there are {names}", names = TYPES.map(|t| t.name).join(", "))]
pub struct UnknownType(pub String);

/// Why a device cannot be made.
#[derive(Debug, Error)]
pub enum CreateError {
    /// No video memory.
    #[error(transparent)]
    Vram(#[from] VramError),
    /// The type's geometry is none.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// Its configuration space cannot be laid out.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its monitor cannot be described.
    #[error(transparent)]
    Edid(#[from] edid::ConfigError),
}

impl DeviceType {
    /// The type with this name.
    ///
    /// # Errors
    /// [`UnknownType`].
    pub fn find(name: &str) -> Result<Self, UnknownType> {
        TYPES.into_iter().find(|t| t.name == name).ok_or_else(|| UnknownType(name.to_owned()))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it is, in the kernel's words.
    #[must_use]
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// How many of it a parent has room for, if there is nothing else.
    #[must_use]
    pub fn available_instances(&self) -> u32 {
        self.available_instances
    }

    /// The interfaces that the kernel's driver of this type offers; our own types offer both.
    #[must_use]
    pub fn default_interfaces(&self) -> Interfaces {
        match self.make {
            Make::Mdpy { .. } => Interfaces::REGION,
            Make::Mbochs { .. } => Interfaces::DMABUF,
            Make::Vgfx { .. } => Interfaces::all(),
        }
    }

    /// Its sysfs attributes as one line of JSON, while its parent has room for so many.
    #[must_use]
    pub fn to_json(&self, available_instances: u32) -> String {
        let attributes = Attributes {
            r#type: self.name,
            name: self.name,
            description: self.description,
            device_api: "vfio-pci",
            available_instances: available_instances.to_string(),
        };
        serde_json::to_string(&attributes).unwrap_or_default()
    }

    /// Makes a device of this type, offering `interfaces` or what the kernel's driver does.
    ///
    /// # Errors
    /// [`CreateError`], in practice when the system has no memory for it.
    pub fn create(&self, interfaces: Option<Interfaces>) -> Result<Device, CreateError> {
        let start = Instant::now();
        self.create_with_clock(interfaces, Box::new(move || start.elapsed()))
    }

    /// The same with a clock of the caller's, for tests and replays.
    ///
    /// # Errors
    /// As [`DeviceType::create`].
    pub fn create_with_clock(
        &self,
        interfaces: Option<Interfaces>,
        clock: Clock,
    ) -> Result<Device, CreateError> {
        let interfaces = interfaces.unwrap_or(self.default_interfaces());
        match self.make {
            Make::Mdpy { width, height } => {
                let vram = Arc::new(Vram::new(self.name, Mdpy::vram_size(width, height))?);
                let model = Mdpy::new(width, height)?;
                model.paint(&vram);
                let spec = DeviceSpec {
                    name: self.name.to_owned(),
                    config: Mdpy::config(width, height)?,
                    regions: Mdpy::regions(width, height),
                    display_region: DISPLAY_REGION,
                    interfaces,
                    irqs: Vec::new(),
                    edid: None,
                    events: false,
                };
                Ok(Device::new(spec, vram, Box::new(model)))
            }
            Make::Mbochs { megabytes, max, preferred } => {
                let model = Mbochs::new(megabytes << 20, max, clock);
                self.create_bochs(interfaces, megabytes << 20, max, preferred, Box::new(model))
            }
            Make::Vgfx { megabytes, max } => {
                let model = Vgfx::new(megabytes << 20, max, clock);
                self.create_bochs(interfaces, megabytes << 20, max, max, Box::new(model))
            }
        }
    }

    /// A device with the configuration space, regions and EDID of a Bochs display.
    fn create_bochs(
        &self,
        interfaces: Interfaces,
        size: u64,
        max: (u32, u32),
        preferred: (u32, u32),
        model: Box<dyn Model>,
    ) -> Result<Device, CreateError> {
        let vram = Arc::new(Vram::new(self.name, size)?);
        let monitor = Config {
            max: Some(max).filter(|max| *max != (0, 0)),
            // bochs-drm wants room for two framebuffers (drm_vram_helper_mode_valid).
            max_pixels: Some(size / 2 / 4),
            ..Config::new(Mode::new(preferred.0, preferred.1))
        };
        let edid = edid::generate(&monitor)?;
        let is_vgfx = matches!(self.make, Make::Vgfx { .. });
        let config = Mbochs::config(size)?;
        let spec = DeviceSpec {
            name: self.name.to_owned(),
            config: if is_vgfx { config.with_msi()? } else { config },
            regions: Mbochs::regions(size),
            display_region: pci_region::BAR0,
            interfaces,
            // INTx none, MSI one.
            irqs: if is_vgfx { vec![0, 1] } else { Vec::new() },
            edid: Some(EdidRegion::new(edid.as_bytes(), max)),
            events: is_vgfx,
        };
        Ok(Device::new(spec, vram, model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vfio_gfx::abi::{Errno, RegionFlags};

    #[test]
    fn attributes_are_the_kernels() {
        let json = DeviceType::find("mbochs-small").unwrap().to_json(64);
        let expected = concat!(
            r#"{"type":"mbochs-small","name":"mbochs-small","description":"virtual display, 4 MB video memory","#,
            r#""device_api":"vfio-pci","available_instances":"64"}"#
        );
        assert_eq!(json, expected);
    }

    /// An image of 512 bytes for a Bochs display, its PCI data structure at 0x1c.
    fn rom() -> Vec<u8> {
        let mut image = vec![0; 512];
        image[..3].copy_from_slice(&[0x55, 0xaa, 1]);
        image[0x18] = 0x1c;
        image[0x1c..0x24].copy_from_slice(b"PCIR\x34\x12\x11\x11");
        (image[0x2c], image[0x31]) = (1, 0x80);
        image
    }

    #[test]
    fn a_rom_is_read_only_and_changes_nothing_else() {
        let bare = || DeviceType::find("mbochs-small").unwrap().create(None).unwrap();
        let (mut with, mut without) = (bare().with_rom(rom()).unwrap(), bare());
        let mut both = |what: &dyn Fn(&mut Device) -> Vec<u8>| (what(&mut with), what(&mut without));
        let config = |device: &mut Device| {
            let mut config = vec![0; 256];
            device.guest_read(pci_region::CONFIG, 0, &mut config).unwrap();
            config
        };
        let (one, other) = both(&config);
        assert_eq!(one, other, "off at power-on");
        let (mut one, other) = both(&|device: &mut Device| {
            device.guest_write(pci_region::CONFIG, 0, &[0xff; 256]).unwrap();
            config(device)
        });
        assert_eq!(one[0x30..0x34], 0xffff_f801u32.to_le_bytes());
        one[0x30..0x34].fill(0);
        assert_eq!(one, other);

        assert_eq!(without.regions().iter().count() + 1, with.regions().iter().count());
        assert_eq!(without.regions().num_regions(), with.regions().num_regions());
        let region = with.regions().get(pci_region::ROM).unwrap().clone();
        assert_eq!((region.size, region.flags()), (2048, RegionFlags::READ));
        for other in without.regions().iter() {
            assert!(other.fd_offset + other.size <= region.fd_offset);
        }
        let mut read = [0; 512];
        assert_eq!(with.fd_read(region.fd_offset, &mut read), Ok(512));
        assert_eq!(read[..], rom());
        assert_eq!(with.fd_write(region.fd_offset, &[0]), Err(Errno::EINVAL));
        assert!(with.fd_mmap(region.fd_offset, 2048, true).is_err());
        assert!(without.guest_read(pci_region::ROM, 0, &mut read).is_err());
    }

    #[test]
    fn every_type_can_be_made_and_names_its_alternatives() {
        for t in TYPES {
            assert_eq!(t.create(None).unwrap().name(), t.name());
        }
        let error = DeviceType::find("mbochs").unwrap_err().to_string();
        assert!(error.contains("mbochs-large"), "{error}");
    }
}
