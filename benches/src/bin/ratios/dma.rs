//! Guest memory that a VMM maps and unmaps, a few pages at a time, as behind a guest's IOMMU: the cost of one range must not
//! grow with the number of ranges.

use std::error::Error;
use std::os::fd::OwnedFd;
use std::time::Duration;

use vfio_gfx::memory::{PAGE_SIZE, Vram};
use vfio_gfx::vfio_user::{Client, ClientError, Command, DmaMap, DmaUnmap};
use vfio_gfx_benches::compare::median;
use vfio_gfx_benches::device::TYPE;
use vfio_gfx_benches::figure::Figure;
use zerocopy::IntoBytes;

use crate::Report;
use crate::cpu::during;
use crate::placement::Cpus;
use crate::programs::Served;

const FEW: u64 = 1000;
const MANY: u64 = 10_000;
const ROUNDS: usize = 7;
/// Bytes of guest memory: each range is one page of it.
const MEMORY: u64 = 1 << 20;
/// Bytes of the two requests, as they say themselves.
const MAP_SIZE: u32 = 32;
const UNMAP_SIZE: u32 = 24;
const _: () =
    assert!(MAP_SIZE as usize == size_of::<DmaMap>() && UNMAP_SIZE as usize == size_of::<DmaUnmap>());
/// `VFIO_USER_F_DMA_REGION_READ` and `_WRITE`.
const READ_WRITE: u32 = 3;
/// Accepted: ten times as many ranges may cost each a deeper tree, and caches that hold less of it.
const ACCEPTED: f64 = 1.3;

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut served = Served::start(TYPE)?;
    let pid = served.pid();
    let cpus = Cpus::of_this_process()?;
    cpus.place(&[pid], false)?;
    let guest = Vram::new("guest", MEMORY)?;
    let fd = [OwnedFd::from(guest.file().try_clone()?)];
    churn(&mut served.vmm, &fd, FEW)?;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for is_few in [round % 2 == 0, round % 2 != 0] {
            let (count, times) = if is_few { (FEW, &mut few) } else { (MANY, &mut many) };
            // As many messages in either case.
            let used = during(pid, || {
                (0..MANY / count).try_for_each(|_| churn(&mut served.vmm, &fd, count)).map_err(Into::into)
            })?;
            times.push(used);
        }
    }
    let each = |times: &mut [Duration]| median(times) / MANY as f64;
    report(Figure::new(
        "dma map and unmap, each of 10000 ranges: CPU",
        each(&mut many),
        "ns",
        each(&mut few),
        "each of 1000",
        ACCEPTED,
    ))
}

/// Maps so many ranges, none of which touches another, and unmaps them.
fn churn(vmm: &mut Client, fd: &[OwnedFd], count: u64) -> Result<(), ClientError> {
    // Every second page; from both ends of the addresses in turn, so that no order is the tree's own.
    let address = |n: u64| 2 * PAGE_SIZE * if n.is_multiple_of(2) { n } else { 2 * MANY - n };
    for n in 0..count {
        let map = DmaMap {
            argsz: MAP_SIZE,
            flags: READ_WRITE,
            offset: n * PAGE_SIZE % MEMORY,
            address: address(n),
            size: PAGE_SIZE,
        };
        vmm.call_with_fds(Command::DmaMap, &[map.as_bytes()], fd, |_, _| Ok(()))?;
    }
    for n in 0..count {
        let unmap = DmaUnmap { argsz: UNMAP_SIZE, flags: 0, address: address(n), size: PAGE_SIZE };
        vmm.call(Command::DmaUnmap, &[unmap.as_bytes()], |_, _| Ok(()))?;
    }
    Ok(())
}
