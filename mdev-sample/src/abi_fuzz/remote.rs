//! A device behind a vfio-user socket, called as if it had a descriptor.
//!
//! The protocol has no `pread` and no raw ioctls, so each call is put into the message that carries it, and the reply back
//! into what a descriptor would say. What a message cannot say is added: where regions are ([`super::layout`]), that an
//! ioctl which has no message is none, that the struct of a query has no offset. Everything else is the server's answer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use vfio_gfx::abi::{
    DEVICE_INFO_MIN, DeviceIoctl, Errno, FEATURE_HEADER, GfxFlags, IRQ_INFO_MIN, IRQ_SET_HEADER, Interface,
    PLANE_INFO_MIN, PlaneInfo, PlaneKind, PlaneRequest, REGION_INFO_MIN, RegionFlags, RegionInfo, caps,
    feature_number,
};
use vfio_gfx::vfio_user::extension::{BufferReply, BufferRequest, PlaneReply, kind_from_raw};
use vfio_gfx::vfio_user::{ClientError, Command};
use zerocopy::{FromBytes, IntoBytes};

use super::kept::Kept;
use super::layout::{Region, lay_out};
use super::target::{Dmabuf, MapRequest, Target};
use super::wire::Wire;

/// Most regions that are looked for: beyond that a device is not believed.
const MAX_REGIONS: u32 = 64;

/// Why there is nothing to walk over.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The one place of a VMM is taken.
    #[error("{0}: a VMM is attached to the device, and a walk has to attach as one: end it first")]
    Busy(PathBuf),
    /// The device does not answer.
    #[error("{path}")]
    Client {
        /// Its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// A device behind a socket, taken as its VMM until this is dropped.
#[derive(Debug)]
pub struct RemoteTarget {
    name: String,
    wire: Wire,
    regions: Vec<Region>,
    /// Its video memory, and the index of the region.
    vram: Option<(u32, File)>,
    has_buffers: bool,
    /// What it was like before the walk.
    kept: Option<Kept>,
}

/// The first bytes of the caller's memory; `EFAULT` where it ends before.
fn copy_in(arg: &[u8], len: u32) -> Result<&[u8], Errno> {
    usize::try_from(len).ok().and_then(|len| arg.get(..len)).ok_or(Errno::EFAULT)
}

/// A reply goes back into the caller's memory, of which `needed` bytes have to be there.
fn copy_out(reply: &[u8], needed: usize, arg: &mut [u8]) -> Result<(), Errno> {
    let reply = reply.get(..needed).ok_or(Errno::EIO)?;
    arg.get_mut(..needed).ok_or(Errno::EFAULT)?.copy_from_slice(reply);
    Ok(())
}

impl RemoteTarget {
    /// Attaches to the server at `path` as a VMM, because a console may not write. Its name in recordings is the socket's.
    ///
    /// # Errors
    /// [`RemoteError`], [`RemoteError::Busy`] while a VMM is attached.
    pub fn connect(path: &Path) -> Result<Self, RemoteError> {
        let named = |source| match source {
            ClientError::Refused { command: Command::Version, errno: Errno::EBUSY } => {
                RemoteError::Busy(path.to_owned())
            }
            source => RemoteError::Client { path: path.to_owned(), source },
        };
        let mut wire = Wire::connect(path).map_err(named)?;
        let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let (mut sizes, mut vram, mut edid) = (Vec::new(), None, None);
        for index in 0..MAX_REGIONS {
            // Behind the last region nothing is told, which is no error.
            let Ok((info, reply, fd)) = wire.region_info(index) else { break };
            sizes.push((index, info.size));
            let is_mappable = info.flags & RegionFlags::MMAP.bits() != 0;
            if let (true, None, Some(fd)) = (is_mappable, &vram, fd) {
                vram = Some((index, File::from(fd)));
            }
            if caps::parse(&reply, info.cap_offset)
                .is_ok_and(|caps| caps.contains(&caps::RegionCap::GFX_EDID))
            {
                edid = Some(index);
            }
        }
        let probe = PlaneRequest::Probe(Interface::Dmabuf).to_raw();
        let has_buffers = wire.bytes(Command::QueryGfxPlane, probe.as_bytes()).is_ok();
        let kept = Kept::of(&mut wire, edid).ok();
        wire.check().map_err(named)?;
        Ok(Self { name, wire, regions: lay_out(&sizes), vram, has_buffers, kept })
    }

    fn place(&self, index: u32) -> Option<&Region> {
        self.regions.iter().find(|region| region.index == index)
    }

    fn at(&self, offset: u64) -> Option<(u32, u64)> {
        self.regions.iter().find_map(|region| {
            let inside = offset.checked_sub(region.at)?;
            (inside < region.size).then_some((region.index, inside))
        })
    }

    fn get_region_info(&mut self, arg: &mut [u8]) -> Result<(), Errno> {
        copy_in(arg, REGION_INFO_MIN)?;
        let (mut reply, fds) = self.wire.bytes(Command::GetRegionInfo, arg)?;
        let (mut info, _) = RegionInfo::read_from_prefix(&reply).map_err(|_| Errno::EIO)?;
        // In a message the offset is that in the descriptor beside it. A mappable region beyond the last one, as mdpy has,
        // is the video memory again.
        let other_name = self.vram.as_ref().filter(|_| !fds.is_empty()).map(|(index, _)| *index);
        let place = self.place(info.index).or_else(|| self.place(other_name?));
        info.offset = place.map_or(0, |region| region.at);
        reply.get_mut(..size_of::<RegionInfo>()).ok_or(Errno::EIO)?.copy_from_slice(info.as_bytes());
        // The offset means something only where the flag is set; else it is what the caller left there.
        let offset = if info.flags & RegionFlags::CAPS.bits() == 0 { 0 } else { info.cap_offset };
        let caps = caps::encode(&caps::parse(&reply, offset).map_err(|_| Errno::EIO)?);
        copy_out(&reply, size_of::<RegionInfo>() + caps.len(), arg)
    }

    fn get_irq_info(&mut self, arg: &mut [u8]) -> Result<(), Errno> {
        copy_in(arg, IRQ_INFO_MIN)?;
        let (reply, _) = self.wire.bytes(Command::GetIrqInfo, arg)?;
        let fixed = copy_in(&reply, IRQ_INFO_MIN).map_err(|_| Errno::EIO)?.len();
        let caps = if caps::is_display_irq(&reply) { caps::display_irq().len() } else { 0 };
        copy_out(&reply, fixed + caps, arg)
    }

    /// Judged as the kernel does for every device, and then sent: a server has the command, or not.
    fn feature(&mut self, arg: &[u8]) -> Result<(), Errno> {
        let head = copy_in(arg, FEATURE_HEADER)?;
        let ([argsz, flags], _) = <[u32; 2]>::read_from_prefix(head).map_err(|_| Errno::EFAULT)?;
        feature_number(argsz, flags)?;
        match self.wire.bytes(Command::DeviceFeature, arg) {
            Err(Errno::EOPNOTSUPP) => Err(Errno::ENOTTY),
            other => other.map(|_| ()),
        }
    }

    /// A descriptor's query has no place for an offset, and finds the primary plane under type 0 too, as QEMU asks for it.
    fn query_gfx_plane(&mut self, arg: &mut [u8]) -> Result<(), Errno> {
        let head = copy_in(arg, PLANE_INFO_MIN)?;
        let mut request: PlaneInfo = zerocopy::FromZeros::new_zeroed();
        request.as_mut_bytes()[..head.len()].copy_from_slice(head);
        let mut reply = self.plane(&request)?;
        if request.flags & GfxFlags::PROBE.bits() != 0 {
            return Ok(());
        }
        let is_region = request.flags == GfxFlags::REGION.bits();
        let is_off = (reply.info.drm_format, reply.info.width, reply.info.size) == (0, 0, 0);
        if is_region && is_off && request.drm_plane_type == PlaneKind::Overlay.raw() {
            let primary = PlaneInfo { drm_plane_type: PlaneKind::Primary.raw(), ..request };
            reply = self.plane(&primary)?;
            reply.info.drm_plane_type = request.drm_plane_type;
        }
        if is_region && reply.offset != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        copy_out(reply.info.as_bytes(), PLANE_INFO_MIN as usize, arg)
    }

    fn plane(&mut self, request: &PlaneInfo) -> Result<PlaneReply, Errno> {
        let (reply, _) = self.wire.bytes(Command::QueryGfxPlane, request.as_bytes())?;
        PlaneReply::read_from_bytes(&reply).map_err(|_| Errno::EIO)
    }
}

impl Target for RemoteTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn ioctl(&mut self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        match DeviceIoctl::from_raw(request) {
            Some(DeviceIoctl::GetInfo) => {
                let head = copy_in(arg, DEVICE_INFO_MIN)?;
                let (reply, _) = self.wire.bytes(Command::GetInfo, head)?;
                copy_out(&reply, head.len(), arg)
            }
            Some(DeviceIoctl::GetRegionInfo) => self.get_region_info(arg),
            Some(DeviceIoctl::GetIrqInfo) => self.get_irq_info(arg),
            Some(DeviceIoctl::SetIrqs) => {
                copy_in(arg, IRQ_SET_HEADER)?;
                self.wire.bytes(Command::SetIrqs, arg).map(|_| ())
            }
            Some(DeviceIoctl::Reset) => self.wire.reset(),
            Some(DeviceIoctl::QueryGfxPlane) => self.query_gfx_plane(arg),
            Some(DeviceIoctl::GetGfxDmabuf) => {
                let id = arg.first_chunk().copied().map(u32::from_ne_bytes);
                match id {
                    None if self.has_buffers => Err(Errno::EFAULT),
                    // Without the interface there is no such ioctl, whatever its argument.
                    id => self.dmabuf(id.unwrap_or(0)).map(|_| ()),
                }
            }
            Some(DeviceIoctl::Feature) => self.feature(arg),
            // No message has it. (A command that the server does not know is EOPNOTSUPP, an ioctl ENOTTY.)
            _ => Err(Errno::ENOTTY),
        }
    }

    fn ioctl_bad_pointer(&mut self, request: u32) -> Result<(), Errno> {
        // As of memory that ends at once: a message never has a pointer.
        self.ioctl(request, &mut [])
    }

    fn dmabuf(&mut self, id: u32) -> Result<Dmabuf, Errno> {
        if !self.has_buffers {
            return Err(Errno::ENOTTY);
        }
        let request = BufferRequest { dmabuf_id: id, reserved: 0 };
        let (reply, mut fds) = self.wire.bytes(Command::GetGfxDmabuf, request.as_bytes())?;
        let reply = BufferReply::read_from_bytes(&reply).map_err(|_| Errno::EIO)?;
        let (Some(fd), Some(kind)) = (fds.pop(), kind_from_raw(reply.kind)) else {
            return Err(Errno::EIO);
        };
        if reply.offset != 0 {
            // A descriptor alone does not say where the plane starts.
            return Err(Errno::EINVAL);
        }
        Dmabuf::of(fd, kind)
    }

    fn pread(&mut self, offset: u64, data: &mut [u8]) -> Result<usize, Errno> {
        if data.is_empty() {
            return Ok(0);
        }
        let (region, inside) = self.at(offset).ok_or(Errno::EFAULT)?;
        let leaves = self.leaves(region, inside, data.len());
        self.wire.read(region, inside, data).map_err(|errno| outside(errno, leaves))?;
        Ok(data.len())
    }

    fn pwrite(&mut self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        if data.is_empty() {
            return Ok(0);
        }
        let (region, inside) = self.at(offset).ok_or(Errno::EFAULT)?;
        let leaves = self.leaves(region, inside, data.len());
        self.wire.write(region, inside, data).map_err(|errno| outside(errno, leaves))?;
        Ok(data.len())
    }

    fn mmap(&mut self, request: MapRequest) -> Result<[u8; 16], Errno> {
        let (index, memory) = self.vram.as_ref().ok_or(Errno::EINVAL)?;
        let region = self.place(*index).ok_or(Errno::EINVAL)?;
        let shared = request.flags & 3 == 1;
        let fits = request.len != 0 && request.len as u64 <= region.size;
        if region.at != request.offset || !shared || !fits {
            return Err(Errno::EINVAL);
        }
        let mut first = [0; 16];
        memory.read_exact_at(&mut first, 0).map_err(|_| Errno::EIO)?;
        Ok(first)
    }

    fn check(&mut self) -> io::Result<()> {
        self.wire.check().map_err(io::Error::other)
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(kept) = &self.kept {
            // What it refuses to take back is its own affair; that it is gone is not.
            let _ = kept.restore(&mut self.wire);
        }
        self.wire.check().map_err(io::Error::other)
    }
}

impl RemoteTarget {
    fn leaves(&self, region: u32, inside: u64, len: usize) -> bool {
        self.place(region).is_none_or(|region| inside.saturating_add(len as u64) > region.size)
    }
}

/// The error of an access that leaves its region: `EINVAL` in a message, `EFAULT` of a descriptor.
fn outside(errno: Errno, leaves: bool) -> Errno {
    if leaves && errno == Errno::EINVAL { Errno::EFAULT } else { errno }
}
