//! Every call on our descriptors, answered. No C in here: arguments are bytes, results are numbers or errors.

use std::ffi::c_int;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vfio_gfx::abi::{
    ContainerIoctl, DeviceIoctl, Errno, FdKind, GroupIoctl, Interface, Ioctl, PlaneInfo, PlaneKind,
    PlaneRequest, RegionInfo,
};
use vfio_gfx::plane::Plane;
use zerocopy::IntoBytes;

use crate::bytes::{fill, read as parse};
use crate::config::{Config, Path};
use crate::device::{Device, REGION_SHIFT};
use crate::files::Files;
use crate::report;
use crate::screen::Screen;

/// `VFIO_API_VERSION` (vfio.h)
const API_VERSION: c_int = 0;
/// `VFIO_TYPE1_IOMMU` and `VFIO_TYPE1v2_IOMMU` (vfio.h): what QEMU asks for, and what mapping here is like.
const TYPE1: [usize; 2] = [1, 3];
/// `VFIO_GROUP_FLAGS_VIABLE` (vfio.h)
const VIABLE: u32 = 1;
/// `VFIO_IOMMU_INFO_PGSIZES` (vfio.h): the field that says so is filled in.
const PAGE_SIZES_KNOWN: u32 = 1;
/// Any multiple of 4 KiB can be mapped.
const PAGE_SIZES: u64 = !0xfff;

/// `struct vfio_iommu_type1_info` (vfio.h), 24 bytes.
#[derive(Clone, Copy, Debug, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
struct IommuInfo {
    argsz: u32,
    flags: u32,
    iova_pgsizes: u64,
    cap_offset: u32,
    pad: u32,
}

/// An ioctl's third parameter.
#[derive(Debug)]
pub(crate) enum Arg<'a> {
    /// A number.
    Value(usize),
    /// A number that it points to.
    Word(u32),
    /// A struct in the caller's memory, whose copy is copied back afterwards.
    Struct(&'a mut [u8]),
}

/// What an ioctl expects there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgKind {
    /// A number, or a pointer that is not looked at.
    Value,
    /// A pointer to 32 bits that are only read.
    Word,
    /// A struct that starts with its size.
    Sized,
}

/// What the third parameter of an ioctl is.
pub(crate) fn arg_kind(ioctl: Ioctl) -> ArgKind {
    match ioctl {
        Ioctl::Container(ContainerIoctl::GetInfo | ContainerIoctl::MapDma | ContainerIoctl::UnmapDma)
        | Ioctl::Group(GroupIoctl::GetStatus)
        | Ioctl::Device(
            DeviceIoctl::GetInfo
            | DeviceIoctl::GetRegionInfo
            | DeviceIoctl::GetIrqInfo
            | DeviceIoctl::SetIrqs
            | DeviceIoctl::QueryGfxPlane,
        ) => ArgKind::Sized,
        Ioctl::Device(DeviceIoctl::GetGfxDmabuf) => ArgKind::Word,
        _ => ArgKind::Value,
    }
}

/// The device and its screen. Two locks: a register is not waited for while a picture is compared.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) files: Files,
    device: Mutex<Option<Device>>,
    screen: Mutex<Option<Screen>>,
}

/// A panic of ours was reported when it happened; what it left behind is still memory-safe.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in the device's descriptor: region and offset in it.
fn split(offset: u64) -> Result<(u32, u64), Errno> {
    let region = u32::try_from(offset >> REGION_SHIFT).map_err(|_| Errno::EINVAL)?;
    Ok((region, offset & ((1 << REGION_SHIFT) - 1)))
}

impl Shim {
    pub(crate) const fn new() -> Self {
        Self { files: Files::new(), device: Mutex::new(None), screen: Mutex::new(None) }
    }

    /// Opens one of our files. The device is attached with its group, and one line says why where it is not.
    ///
    /// # Errors
    /// `EBUSY` while it is open, `EIO` without a device.
    pub(crate) fn open(&self, config: &Config, path: Path) -> Result<RawFd, Errno> {
        match path {
            Path::Container => self.files.open(FdKind::Container),
            Path::Group => {
                let mut device = lock(&self.device);
                if device.is_some() {
                    return Err(Errno::EBUSY);
                }
                let attached = Device::attach(&config.socket).map_err(|error| {
                    report::error("no device for QEMU", &error);
                    Errno::EIO
                })?;
                let fd = self.files.open(FdKind::Group)?;
                *device = Some(attached);
                Ok(fd)
            }
        }
    }

    /// One of our descriptors is about to be closed.
    pub(crate) fn close(&self, kind: FdKind) {
        self.files.forget(kind);
        match kind {
            FdKind::Container => {}
            FdKind::Group => drop(lock(&self.device).take()),
            FdKind::Device => drop(lock(&self.screen).take()),
        }
    }

    /// Answers an ioctl.
    ///
    /// # Errors
    /// As the kernel: `ENOTTY` for what there is not, `EINVAL` for malformed arguments; `EIO` when the device is gone.
    pub(crate) fn ioctl(&self, config: &Config, ioctl: Ioctl, arg: Arg<'_>) -> Result<c_int, Errno> {
        match (ioctl, arg) {
            (Ioctl::Container(ioctl), arg) => self.container_ioctl(ioctl, arg),
            (Ioctl::Group(ioctl), arg) => self.group_ioctl(config, ioctl, arg),
            (Ioctl::Device(DeviceIoctl::GetRegionInfo), Arg::Struct(arg)) => self.region_info(arg),
            (Ioctl::Device(DeviceIoctl::QueryGfxPlane), Arg::Struct(arg)) => self.query_plane(config, arg),
            (Ioctl::Device(DeviceIoctl::GetGfxDmabuf), Arg::Word(id))
                if config.interface == Interface::Dmabuf =>
            {
                let fd = lock(&self.screen).as_ref().ok_or(Errno::ENODEV)?.buffer(id)?;
                Ok(fd.into_raw_fd())
            }
            (Ioctl::Device(ioctl), arg) => {
                let mut device = lock(&self.device);
                let device = device.as_mut().ok_or(Errno::ENODEV)?;
                match arg {
                    Arg::Struct(arg) => device.ioctl(ioctl, arg)?,
                    Arg::Value(_) | Arg::Word(_) => device.ioctl(ioctl, &mut [])?,
                }
                Ok(0)
            }
        }
    }

    fn container_ioctl(&self, ioctl: ContainerIoctl, arg: Arg<'_>) -> Result<c_int, Errno> {
        match (ioctl, arg) {
            (ContainerIoctl::GetApiVersion, _) => Ok(API_VERSION),
            (ContainerIoctl::CheckExtension, Arg::Value(extension)) => Ok(TYPE1.contains(&extension).into()),
            (ContainerIoctl::SetIommu, Arg::Value(iommu)) if TYPE1.contains(&iommu) => Ok(0),
            (ContainerIoctl::SetIommu, _) => Err(Errno::EINVAL),
            (ContainerIoctl::GetInfo, Arg::Struct(arg)) => {
                let (argsz, flags) = (parse(arg)?, PAGE_SIZES_KNOWN);
                let info = IommuInfo { argsz, flags, iova_pgsizes: PAGE_SIZES, cap_offset: 0, pad: 0 };
                fill(arg, info.as_bytes());
                Ok(0)
            }
            (ContainerIoctl::MapDma, Arg::Struct(arg)) => match lock(&self.device).as_mut() {
                Some(device) => device.map_dma(arg).map(|()| 0),
                None => Ok(0),
            },
            (ContainerIoctl::UnmapDma, Arg::Struct(arg)) => match lock(&self.device).as_mut() {
                Some(device) => device.unmap_dma(arg).map(|()| 0),
                None => Ok(0),
            },
            _ => Err(Errno::ENOTTY),
        }
    }

    fn group_ioctl(&self, config: &Config, ioctl: GroupIoctl, arg: Arg<'_>) -> Result<c_int, Errno> {
        match (ioctl, arg) {
            (GroupIoctl::GetStatus, Arg::Struct(arg)) => {
                let argsz: u32 = parse(arg)?;
                fill(arg, [argsz, VIABLE].as_bytes());
                Ok(0)
            }
            (GroupIoctl::SetContainer | GroupIoctl::UnsetContainer, _) => Ok(0),
            (GroupIoctl::GetDeviceFd, _) => self.open_device(config),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn open_device(&self, config: &Config) -> Result<c_int, Errno> {
        let region = lock(&self.device).as_ref().ok_or(Errno::ENODEV)?.screen_region();
        let mut slot = lock(&self.screen);
        let screen = Screen::new(&config.socket, region).map_err(|error| {
            report::error("no device for QEMU", &error);
            Errno::EIO
        })?;
        let fd = self.files.open(FdKind::Device)?;
        *slot = Some(screen);
        Ok(fd)
    }

    fn region_info(&self, arg: &mut [u8]) -> Result<c_int, Errno> {
        let asked: RegionInfo = parse(arg)?;
        let mut device = lock(&self.device);
        let device = device.as_mut().ok_or(Errno::ENODEV)?;
        if asked.index == device.screen_region() {
            let info = Screen::region_info(asked.index, u64::from(asked.index) << REGION_SHIFT);
            fill(arg, info.as_bytes());
            return Ok(0);
        }
        device.ioctl(DeviceIoctl::GetRegionInfo, arg).map(|()| 0)
    }

    /// One interface is offered: QEMU takes dma-bufs where it can have them, and fails without GL.
    fn query_plane(&self, config: &Config, arg: &mut [u8]) -> Result<c_int, Errno> {
        // The last field is younger than the ioctl: the caller's struct may end before it.
        let mut bytes = [0; size_of::<PlaneInfo>()];
        fill(&mut bytes, arg);
        let mut info: PlaneInfo = parse(&bytes)?;
        match PlaneRequest::parse(&info)? {
            PlaneRequest::Probe(interface) if interface == config.interface => {}
            // Cursor and overlay are in the picture.
            PlaneRequest::Query(Interface::Dmabuf, kind)
                if config.interface == Interface::Dmabuf && kind != PlaneKind::Primary.raw() =>
            {
                Plane::off_to_raw(&mut info);
                fill(arg, info.as_bytes());
            }
            PlaneRequest::Query(interface, _) if interface == config.interface => {
                lock(&self.screen).as_mut().ok_or(Errno::ENODEV)?.query(interface, &mut info);
                fill(arg, info.as_bytes());
            }
            PlaneRequest::Probe(_) | PlaneRequest::Query(..) => return Err(Errno::EINVAL),
        }
        Ok(0)
    }

    /// Reads the device's descriptor; returns how many bytes.
    ///
    /// # Errors
    /// The device's errno, `EINVAL` where nothing is.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) -> Result<usize, Errno> {
        let (region, offset) = split(offset)?;
        let mut device = lock(&self.device);
        let device = device.as_mut().ok_or(Errno::ENODEV)?;
        if region == device.screen_region() {
            return lock(&self.screen).as_ref().ok_or(Errno::ENODEV)?.read(offset, data);
        }
        device.read(region, offset, data)
    }

    /// Writes to the device's descriptor; returns how many bytes.
    ///
    /// # Errors
    /// The device's errno, `EINVAL` where nothing can be written.
    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        let (region, offset) = split(offset)?;
        let mut device = lock(&self.device);
        let device = device.as_mut().ok_or(Errno::ENODEV)?;
        if region == device.screen_region() {
            return Err(Errno::EINVAL);
        }
        device.write(region, offset, data)
    }

    /// What to map instead of a range of the device's descriptor.
    ///
    /// # Errors
    /// `EINVAL` where nothing can be mapped.
    pub(crate) fn place(&self, offset: u64, len: u64) -> Result<(OwnedFd, u64), Errno> {
        let (region, offset) = split(offset)?;
        let device = lock(&self.device);
        let device = device.as_ref().ok_or(Errno::ENODEV)?;
        if region == device.screen_region() {
            let screen = lock(&self.screen);
            let fd = screen.as_ref().ok_or(Errno::ENODEV)?.memory()?;
            let end = offset.checked_add(len).filter(|end| *end <= crate::screen::SIZE);
            return end.map(|_| (fd, offset)).ok_or(Errno::EINVAL);
        }
        device.place(region, offset, len)
    }
}
