//! The ioctls of a device that `vfio-ioctls` does not have, or answers from a table that can be shifted.
#![expect(unsafe_code, reason = "ioctls whose argument layout only we can vouch for")]

use std::ffi::c_void;
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::{DeviceInfo, DeviceIoctl, IrqInfo, PlaneInfo, REGION_INFO_MIN, RegionInfo};

/// Room for every struct that is exchanged here, in 8-byte words; the largest is `PlaneInfo`, 64 bytes.
const WORDS: usize = 8;
/// Largest `argsz` of a region's info, in 8-byte words: 4 KiB, where real ones have some 50 bytes.
const REGION_WORDS: usize = 512;
/// The same in bytes.
pub(super) const MAX_REGION_INFO: u32 = 4096;

/// An ioctl that reads and writes `argsz` bytes at its argument, `argsz` being the first `u32` there.
struct Exchange<'a> {
    ioctl: DeviceIoctl,
    argument: &'a mut [u64],
}

// SAFETY: only `exchange` makes one, and only for GET_INFO, GET_REGION_INFO, GET_IRQ_INFO and QUERY_GFX_PLANE. Drivers
// write at most `argsz` bytes there, and at most the 64 bytes of the struct where they do not look at `argsz`;
// `exchange` made sure that the argument has both.
unsafe impl Ioctl for Exchange<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        Opcode::from(self.ioctl.raw())
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Sends the `argument`, whose `argsz` becomes `argsz` bytes, and finds the reply in its place.
fn exchange(device: &File, ioctl: DeviceIoctl, argument: &mut [u64], argsz: u32) -> Result<(), Errno> {
    let known = matches!(
        ioctl,
        DeviceIoctl::GetInfo
            | DeviceIoctl::GetRegionInfo
            | DeviceIoctl::GetIrqInfo
            | DeviceIoctl::QueryGfxPlane
    );
    assert!(known && argument.len() >= WORDS && argsz as usize <= size_of_val(argument));
    argument.as_mut_bytes()[..4].copy_from_slice(&argsz.to_ne_bytes());
    // SAFETY: the descriptor is a VFIO device's, where these numbers have the meaning that `Exchange` relies on.
    unsafe { rustix::ioctl::ioctl(device, Exchange { ioctl, argument }) }
}

/// The exchange of a struct without anything behind it. Its `argsz` is filled in here.
fn exchange_struct<T>(device: &File, ioctl: DeviceIoctl, request: &T) -> Result<T, Errno>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout,
{
    const { assert!(size_of::<T>() <= size_of::<[u64; WORDS]>()) };
    let mut argument = [0; WORDS];
    argument.as_mut_bytes()[..size_of::<T>()].copy_from_slice(request.as_bytes());
    let argsz = u32::try_from(size_of::<T>()).expect("at most 64");
    exchange(device, ioctl, &mut argument, argsz)?;
    Ok(T::read_from_prefix(argument.as_bytes()).expect("the argument has room for it").0)
}

/// `VFIO_DEVICE_GET_INFO`
pub(super) fn device_info(device: &File) -> Result<DeviceInfo, Errno> {
    exchange_struct(device, DeviceIoctl::GetInfo, &zerocopy::FromZeros::new_zeroed())
}

/// `VFIO_DEVICE_GET_IRQ_INFO`
pub(super) fn irq_info(device: &File, index: u32) -> Result<IrqInfo, Errno> {
    exchange_struct(device, DeviceIoctl::GetIrqInfo, &IrqInfo { argsz: 0, flags: 0, index, count: 0 })
}

/// `VFIO_DEVICE_QUERY_GFX_PLANE`
pub(super) fn query_plane(device: &File, request: &PlaneInfo) -> Result<PlaneInfo, Errno> {
    exchange_struct(device, DeviceIoctl::QueryGfxPlane, request)
}

/// `VFIO_DEVICE_GET_REGION_INFO` with room for `argsz` bytes (between [`REGION_INFO_MIN`] and [`MAX_REGION_INFO`]):
/// the struct, and the whole reply for its capabilities.
pub(super) fn region_info(device: &File, index: u32, argsz: u32) -> Result<(RegionInfo, Vec<u8>), Errno> {
    let argsz = argsz.clamp(REGION_INFO_MIN, MAX_REGION_INFO);
    let mut argument = [0; REGION_WORDS];
    argument.as_mut_bytes()[8..12].copy_from_slice(&index.to_ne_bytes());
    exchange(device, DeviceIoctl::GetRegionInfo, &mut argument, argsz)?;
    let reply = &argument.as_bytes()[..argsz as usize];
    let info = RegionInfo::read_from_prefix(reply).expect("at least 32 bytes").0;
    Ok((info, reply.to_vec()))
}

/// `VFIO_DEVICE_GET_GFX_DMABUF`: its argument is the id alone, its result the descriptor.
struct GetGfxDmabuf(u32);

// SAFETY: the ioctl reads a u32 at the pointer, writes nothing, and returns a new file descriptor.
unsafe impl Ioctl for GetGfxDmabuf {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        Opcode::from(DeviceIoctl::GetGfxDmabuf.raw())
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(&mut self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        if out < 0 {
            return Err(Errno::BADF);
        }
        // SAFETY: a non-negative result of GET_GFX_DMABUF is a descriptor that nobody else owns yet.
        Ok(unsafe { OwnedFd::from_raw_fd(out) })
    }
}

/// `VFIO_DEVICE_GET_GFX_DMABUF`. The descriptor is close-on-exec: not every driver makes it so.
pub(super) fn get_dmabuf(device: &File, id: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: the descriptor is a VFIO device's, where the number means what `GetGfxDmabuf` says.
    let fd = unsafe { rustix::ioctl::ioctl(device, GetGfxDmabuf(id)) }?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Interface, PlaneRequest};

    /// A file of another kind refuses: the numbers and the way back are right, and nothing is made up.
    #[test]
    fn what_is_no_device_refuses_every_call() {
        let file = tempfile::tempfile().unwrap();
        let request = PlaneRequest::Query(Interface::Region, 1).to_raw();
        assert_eq!(device_info(&file).unwrap_err(), Errno::NOTTY);
        assert_eq!(irq_info(&file, 0).unwrap_err(), Errno::NOTTY);
        assert_eq!(query_plane(&file, &request).unwrap_err(), Errno::NOTTY);
        assert_eq!(region_info(&file, 0, u32::MAX).unwrap_err(), Errno::NOTTY);
        assert_eq!(get_dmabuf(&file, 1).unwrap_err(), Errno::NOTTY);
    }

    #[test]
    fn request_numbers_are_the_uapis() {
        assert_eq!(Exchange { ioctl: DeviceIoctl::QueryGfxPlane, argument: &mut [] }.opcode(), 0x3b72);
        assert_eq!(GetGfxDmabuf(0).opcode(), 0x3b73);
    }
}
