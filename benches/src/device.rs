//! Devices to measure: a Bochs display with a mode set, in this process or behind a socket.

use std::error::Error;

use mdev_sample::DeviceType;
use vfio_gfx::abi::{Interface, PlaneKind, PlaneRequest, pci_region};
use vfio_gfx::device::{Interfaces, SharedDevice};
use vfio_gfx::vfio_user::{Client, ClientError, Command, MAX_DATA_XFER, RegionAccess};
use zerocopy::IntoBytes;

/// The type with room for two 4K pages.
pub const TYPE: &str = "mbochs-large";

/// Full HD, in pixels.
pub const HD: (u16, u16) = (1920, 1080);
/// 4K UHD, in pixels.
pub const UHD: (u16, u16) = (3840, 2160);

/// The DISPI registers in BAR2, and the numbers of those used here (QEMU docs/specs/standard-vga.rst).
const DISPI: u64 = 0x500;
const XRES: u64 = 1;
const YRES: u64 = 2;
const BPP: u64 = 3;
const ENABLE: u64 = 4;
const Y_OFFSET: u64 = 9;
/// ENABLE with a linear framebuffer.
const ENABLED_LFB: u16 = 0x41;

/// A register write of a guest: the offset in BAR2, and the value.
type Write = (u64, [u8; 2]);

fn register(number: u64, value: u16) -> Write {
    (DISPI + 2 * number, value.to_le_bytes())
}

fn mode_set((width, height): (u16, u16)) -> [Write; 5] {
    [(ENABLE, 0), (BPP, 32), (XRES, width), (YRES, height), (ENABLE, ENABLED_LFB)]
        .map(|(number, value)| register(number, value))
}

/// A device in this process that offers both interfaces and shows a mode.
///
/// # Errors
/// No memory for it.
pub fn showing(mode: (u16, u16)) -> Result<SharedDevice, Box<dyn Error>> {
    let device = SharedDevice::new(DeviceType::find(TYPE)?.create(Some(Interfaces::all()))?);
    for (offset, value) in mode_set(mode) {
        device.lock().guest_write(pci_region::BAR2, offset, &value)?;
    }
    Ok(device)
}

/// What a guest does to show another page: row `y` of the video memory is the first on screen.
///
/// # Errors
/// None on a device made by [`showing`].
pub fn flip(device: &SharedDevice, y: u16) -> Result<(), Box<dyn Error>> {
    let (offset, value) = register(Y_OFFSET, y);
    Ok(device.lock().guest_write(pci_region::BAR2, offset, &value)?)
}

/// Sets a mode through a VMM's connection.
///
/// # Errors
/// What the connection failed with.
pub fn set_mode(vmm: &mut Client, mode: (u16, u16)) -> Result<(), ClientError> {
    mode_set(mode).iter().try_for_each(|(offset, value)| write(vmm, pci_region::BAR2, *offset, value))
}

/// As [`flip`], through a VMM's connection.
///
/// # Errors
/// What the connection failed with.
pub fn flip_through(vmm: &mut Client, y: u16) -> Result<(), ClientError> {
    let (offset, value) = register(Y_OFFSET, y);
    write(vmm, pci_region::BAR2, offset, &value)
}

/// Writes a region through a VMM's connection.
///
/// # Errors
/// What the connection failed with.
pub fn write(vmm: &mut Client, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
    for (chunk, start) in data.chunks(MAX_DATA_XFER).zip((offset..).step_by(MAX_DATA_XFER)) {
        let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let access = RegionAccess { offset: start, region, count };
        vmm.call(Command::RegionWrite, &[access.as_bytes(), chunk], |_, _| Ok(()))?;
    }
    Ok(())
}

/// The argument of a query of the primary plane, as its caller prepares it: 64 bytes.
#[must_use]
pub fn query(interface: Interface) -> Vec<u8> {
    PlaneRequest::Query(interface, PlaneKind::Primary.raw()).to_raw().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vfio_gfx::plane::Source;

    #[test]
    fn devices_show_what_they_are_told() {
        for mode in [HD, UHD] {
            let device = showing(mode).unwrap();
            flip(&device, mode.1).unwrap();
            let plane = device.lock().query(Interface::Region, PlaneKind::Primary).unwrap().unwrap();
            assert_eq!((plane.geometry.width(), plane.geometry.height()), (mode.0.into(), mode.1.into()));
            let page = plane.geometry.bytes();
            assert_eq!(plane.source, Source::Region { index: 0, offset: page }, "the second page");
        }
    }
}
