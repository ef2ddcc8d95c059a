//! A plane query in process against the cheapest system call: the kernel's ioctl would cost one before it began to
//! work, so ours is to be no more.

use std::error::Error;
use std::hint::black_box;

use vfio_gfx::abi::{DeviceIoctl, Interface};
use vfio_gfx_benches::compare::{Clock, Plan, compare};
use vfio_gfx_benches::device::{HD, query, showing};
use vfio_gfx_benches::figure::Figure;

use crate::{Report, allocations};

const PLAN: Plan = Plan { rounds: 2000, batch: 500, clock: Clock::Thread };
/// Queries during which nothing may be allocated.
const QUERIES: usize = 10_000;

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let device = showing(HD)?;
    for (interface, timed, counted) in [
        (Interface::Region, "query in process, region", "query in process, region: allocations"),
        (Interface::Dmabuf, "query in process, dmabuf", "query in process, dmabuf: allocations"),
    ] {
        let prepared = query(interface);
        let mut arg = prepared.clone();
        let mut ask = || -> Result<(), Box<dyn Error>> {
            arg.copy_from_slice(&prepared);
            let request = black_box(DeviceIoctl::QueryGfxPlane.raw());
            let reply = device.lock().ioctl(request, black_box(&mut arg), Vec::new());
            black_box(reply).map(drop).map_err(|errno| errno.to_string().into())
        };
        // The first query of a buffer issues its id.
        ask()?;
        let (result, allocations) = allocations::during(|| (0..QUERIES).try_for_each(|_| ask()));
        result?;
        report(Figure::counted(counted, allocations as f64, "allocations", 0.0))?;
        let medians = compare(PLAN, ask, || {
            black_box(rustix::process::getppid());
            Ok(())
        })?;
        report(Figure::timed(timed, medians, "getppid syscall", 1.0))?;
    }
    Ok(())
}
