//! A recorded call, made to our device.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{SeekFrom, seek};
use thiserror::Error;
use vfio_gfx::abi::{DeviceIoctl, Errno, Interface, PlaneKind, PlaneRequest};
use vfio_gfx::device::{Device, IoctlReply};
use vfio_gfx::memory::{BufferKind, Mapping};
use zerocopy::IntoBytes;

use super::fields::{Fields, outcome, split};
use super::record::{Record, encode};

/// Why a record cannot be replayed.
#[derive(Debug, Error)]
pub enum RunError {
    /// A call this tool does not know.
    #[error("unknown call {0:?}")]
    UnknownOp(String),
    /// The record lacks what its call needs.
    #[error("{op} lacks {field:?}")]
    Missing {
        /// The call.
        op: String,
        /// What is missing.
        field: &'static str,
    },
    /// The system refused something on the way.
    #[error("cannot inspect a descriptor")]
    Io(#[from] io::Error),
}

fn ended<T>(result: &Result<T, Errno>, value: impl Fn(&T) -> i64) -> Fields {
    match result {
        Ok(returned) => outcome(Ok(value(returned))),
        Err(errno) => outcome(Err(&errno.name().map_or_else(|| errno.raw().to_string(), str::to_owned))),
    }
}

fn needed<T>(record: &Record, field: &'static str, value: Option<T>) -> Result<T, RunError> {
    value.ok_or_else(|| RunError::Missing { op: record.op.clone(), field })
}

/// Makes the call and returns what our device answered, in the fields of the recording. `id` is our number of the buffer that
/// the record asks for.
pub(super) fn run(device: &mut Device, record: &Record, id: Option<u32>) -> Result<Fields, RunError> {
    match record.op.as_str() {
        "query_gfx_plane" => ioctl(device, record, DeviceIoctl::QueryGfxPlane.raw()),
        "get_info"
        | "get_region_info"
        | "get_irq_info"
        | "get_irq_info_before_get_info"
        | "set_irqs"
        | "device_feature"
        | "unknown_ioctl"
        | "ioeventfd"
        | "get_pci_hot_reset_info" => {
            let cmd = needed(record, "cmd", record.cmd)?;
            ioctl(device, record, cmd)
        }
        "query_gfx_plane_bad_pointer" => Ok(bad_pointer(device, DeviceIoctl::QueryGfxPlane)),
        "get_gfx_dmabuf_bad_pointer" => Ok(bad_pointer(device, DeviceIoctl::GetGfxDmabuf)),
        "get_gfx_dmabuf" => get_gfx_dmabuf(device, needed(record, "id", id)?),
        "pread" => {
            let mut data = vec![0; needed(record, "len", record.len)?];
            let result = device.fd_read(needed(record, "offset", record.offset)?, &mut data);
            let mut fields = ended(&result, |len| i64::try_from(*len).unwrap_or(i64::MAX));
            if result.is_ok() {
                fields.push(("data", encode(&data)));
            }
            Ok(fields)
        }
        "pwrite" => {
            let data = needed(record, "data", record.data.as_ref())?;
            let result = device.fd_write(needed(record, "offset", record.offset)?, &data.0);
            Ok(ended(&result, |len| i64::try_from(*len).unwrap_or(i64::MAX)))
        }
        "mmap" => mmap(device, record),
        "mapped_after_pwrite_0x3000" => mapped(device),
        "reset" => {
            let result = device.ioctl(DeviceIoctl::Reset.raw(), &mut [], Vec::new());
            Ok(ended(&result, |_| 0).into_iter().take(1).collect())
        }
        other => Err(RunError::UnknownOp(other.to_owned())),
    }
}

fn ioctl(device: &mut Device, record: &Record, cmd: u32) -> Result<Fields, RunError> {
    let mut arg = needed(record, "in", record.arg.as_ref())?.0.clone();
    let result = device.ioctl(cmd, &mut arg, Vec::new());
    let mut fields = ended(&result, |_| 0);
    fields.extend(split(&record.op, &arg));
    Ok(fields)
}

/// What our device says of its primary plane through the region interface; nothing where it has none.
pub(super) fn primary(device: &mut Device) -> Fields {
    let mut raw = PlaneRequest::Query(Interface::Region, PlaneKind::Primary.raw()).to_raw();
    match device.ioctl(DeviceIoctl::QueryGfxPlane.raw(), raw.as_mut_bytes(), Vec::new()) {
        Ok(_) => split("query_gfx_plane", raw.as_bytes()),
        Err(_) => Fields::new(),
    }
}

fn bad_pointer(device: &mut Device, ioctl: DeviceIoctl) -> Fields {
    ended(&device.ioctl(ioctl.raw(), &mut [], Vec::new()), |_| 0)
}

fn get_gfx_dmabuf(device: &mut Device, id: u32) -> Result<Fields, RunError> {
    let mut arg = id.to_ne_bytes();
    let result = device.ioctl(DeviceIoctl::GetGfxDmabuf.raw(), &mut arg, Vec::new());
    let mut fields = ended(&result, |_| 1);
    if let Ok(IoctlReply::Fd(fd)) = result {
        let size = seek(&fd, SeekFrom::End(0)).map_err(io::Error::from)?;
        fields.push(("size", size.to_string()));
        fields.extend(mappings(&fd, device.buffer_kind(), size)?);
    }
    Ok(fields)
}

/// Whether the buffer can be mapped, shared and privately.
fn mappings(fd: &OwnedFd, kind: BufferKind, size: u64) -> Result<Fields, RunError> {
    let shared = Mapping::new(fd.try_clone()?, kind, size).is_ok();
    // udmabuf refuses private mappings, a memfd allows them (drivers/dma-buf/udmabuf.c, mm/shmem.c).
    let private = kind == BufferKind::Memfd;
    let word = |works: bool| if works { "0" } else { "EINVAL" }.to_owned();
    Ok(vec![("mmap_shared", word(shared)), ("mmap_private", word(private))])
}

fn mmap(device: &mut Device, record: &Record) -> Result<Fields, RunError> {
    let offset = needed(record, "offset", record.offset)?;
    let len = needed(record, "len", record.len)?;
    let shared = needed(record, "flags", record.flags)? & 3 == 1;
    match device.fd_mmap(offset, len as u64, shared) {
        Ok((fd, at)) => {
            let mut first = [0; 16];
            read_exact(fd, at, &mut first)?;
            Ok(vec![("errno", "0".to_owned()), ("first16", encode(&first))])
        }
        Err(errno) => Ok(vec![("errno", errno.name().unwrap_or("?").to_owned())]),
    }
}

fn read_exact(fd: BorrowedFd<'_>, at: u64, data: &mut [u8]) -> Result<(), RunError> {
    let len = rustix::io::pread(fd, &mut *data, at).map_err(io::Error::from)?;
    if len < data.len() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(())
}

/// The recording wrote these bytes to BAR0 + 0x3000 with `pwrite` right before.
fn mapped(device: &mut Device) -> Result<Fields, RunError> {
    let vram = device.vram().clone();
    let mut fields = Fields::new();
    for (name, at) in [("at_0x3000", 0x3000), ("at_0", 0), ("at_0x5000", 0x5000)] {
        let mut bytes = [0; 4];
        read_exact(vram.as_fd(), at, &mut bytes)?;
        fields.push((name, encode(&bytes)));
    }
    Ok(fields)
}
