//! A device behind a vfio-user socket, called as if it had a descriptor.
//!
//! The protocol has no `pread` and no raw ioctls, so each call is put into the message that carries it, and the reply back
//! into what a descriptor would say. What a message cannot say is added: where regions are ([`super::layout`]), that an
//! ioctl which has no message is none, that the struct of a query has no offset. Everything else is the server's answer.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};
use thiserror::Error;
use vfio_gfx::abi::{
    DEVICE_INFO_MIN, DeviceIoctl, Errno, GfxFlags, IRQ_INFO_MIN, IRQ_SET_HEADER, Interface, PLANE_INFO_MIN,
    PlaneInfo, PlaneKind, PlaneRequest, REGION_INFO_MIN, RegionFlags, RegionInfo, caps,
};
use vfio_gfx::memory::{BufferKind, Mapping};
use vfio_gfx::vfio_user::extension::{BufferReply, BufferRequest, PlaneReply, kind_from_raw};
use vfio_gfx::vfio_user::{Client, ClientError, Command, RegionAccess, Role};
use zerocopy::{FromBytes, IntoBytes};

use super::kept::Kept;
use super::layout::{Region, lay_out};
use super::target::{Dmabuf, MapRequest, Target};

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

/// The connection, and how it ended.
#[derive(Debug)]
pub(super) struct Wire {
    client: Client,
    lost: Option<ClientError>,
}

impl Wire {
    fn call<T>(
        &mut self,
        command: Command,
        payload: &[&[u8]],
        read: impl FnOnce(&[u8], Vec<OwnedFd>) -> Result<T, ClientError>,
    ) -> Result<T, Errno> {
        if self.lost.is_some() {
            return Err(Errno::ENODEV);
        }
        self.client.call(command, payload, read).map_err(|error| match error {
            ClientError::Refused { errno, .. } => errno,
            error => {
                self.lost = Some(error);
                Errno::ENODEV
            }
        })
    }

    fn bytes(&mut self, command: Command, payload: &[u8]) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
        self.call(command, &[payload], |payload, fds| Ok((payload.to_vec(), fds)))
    }

    pub(super) fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let count = u32::try_from(data.len()).map_err(|_| Errno::EINVAL)?;
        let access = RegionAccess { offset, region, count };
        self.call(Command::RegionRead, &[access.as_bytes()], |payload, _| {
            let read = payload.get(size_of::<RegionAccess>()..).filter(|read| read.len() == data.len());
            data.copy_from_slice(read.ok_or(ClientError::Malformed(Command::RegionRead, "wrong length"))?);
            Ok(())
        })
    }

    pub(super) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let count = u32::try_from(data.len()).map_err(|_| Errno::EINVAL)?;
        let access = RegionAccess { offset, region, count };
        self.call(Command::RegionWrite, &[access.as_bytes(), data], |_, _| Ok(()))
    }

    pub(super) fn reset(&mut self) -> Result<(), Errno> {
        self.call(Command::Reset, &[], |_, _| Ok(()))
    }

    fn region_info(&mut self, index: u32) -> Result<(RegionInfo, Vec<u8>, Option<OwnedFd>), Errno> {
        // Room for a capability or two, which is what any region of a display has.
        let mut request = [0; 256];
        request[0..4].copy_from_slice(&256u32.to_ne_bytes());
        request[8..12].copy_from_slice(&index.to_ne_bytes());
        let (reply, mut fds) = self.bytes(Command::GetRegionInfo, &request)?;
        let (info, _) = RegionInfo::read_from_prefix(&reply).map_err(|_| Errno::EIO)?;
        Ok((info, reply, fds.pop()))
    }

    /// Whether the connection is still there.
    fn check(&mut self) -> io::Result<()> {
        self.lost.take().map_or(Ok(()), |lost| Err(io::Error::other(lost)))
    }
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
        let mut wire = Wire { client: Client::connect(path, Role::Vmm).map_err(named)?, lost: None };
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
        if let Some(source) = wire.lost.take() {
            return Err(named(source));
        }
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

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error().unsigned_abs())
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
        let size = seek(&fd, SeekFrom::End(0)).map_err(errno)?;
        let copy = fd.try_clone().map_err(|_| Errno::EMFILE)?;
        let mmap_shared = Mapping::new(copy, kind, size).map(|_| ()).map_err(|_| Errno::EINVAL);
        // udmabuf refuses private mappings, a memfd allows them (drivers/dma-buf/udmabuf.c, mm/shmem.c).
        let mmap_private = if kind == BufferKind::Memfd { Ok(()) } else { Err(Errno::EINVAL) };
        Ok(Dmabuf { fd, size, mmap_shared, mmap_private })
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
        self.wire.check()
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(kept) = &self.kept {
            // What it refuses to take back is its own affair; that it is gone is not.
            let _ = kept.restore(&mut self.wire);
        }
        self.wire.check()
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
