//! A trapped access to a register, as a VMM sends it, against a request that the server refuses without looking at it: what
//! the messages themselves cost. CPU time of the server alone.

use std::error::Error;

use vfio_gfx::abi::pci_region;
use vfio_gfx::vfio_user::{Client, ClientError, Command, RegionAccess};
use vfio_gfx_benches::compare::median;
use vfio_gfx_benches::device::{HD, TYPE, set_mode};
use vfio_gfx_benches::figure::Figure;
use zerocopy::IntoBytes;

use crate::Report;
use crate::cpu::during;
use crate::placement::Cpus;
use crate::programs::Served;

/// Batches of each kind of request, and requests in a batch.
const ROUNDS: usize = 30;
const BATCH: usize = 1000;
/// DISPI register 1, XRES, in BAR2 (QEMU docs/specs/standard-vga.rst): 16 bits.
const XRES: RegionAccess = RegionAccess { offset: 0x502, region: pci_region::BAR2, count: 2 };
/// What [`HD`] is as that register.
const WIDTH: [u8; 2] = HD.0.to_le_bytes();
/// Accepted: the server's time for an access beside its time for an empty request.
const ACCEPTED: f64 = 1.2;

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut served = Served::start(TYPE)?;
    set_mode(&mut served.vmm, HD)?;
    let pid = served.pid();
    let cpus = Cpus::of_this_process()?;
    cpus.place(&[pid], false)?;
    let writes = [XRES.as_bytes(), &WIDTH];
    for (is_write, name) in
        [(false, "register read: CPU of the server"), (true, "register write: CPU of the server")]
    {
        let (mut accesses, mut empties) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for is_access in [round % 2 == 0, round % 2 != 0] {
                let times = if is_access { &mut accesses } else { &mut empties };
                times.push(during(pid, || {
                    for _ in 0..BATCH {
                        match (is_access, is_write) {
                            (true, true) => served.vmm.call(Command::RegionWrite, &writes, |_, _| Ok(()))?,
                            (true, false) => read(&mut served.vmm)?,
                            (false, _) => empty(&mut served.vmm, &writes[..=usize::from(is_write)])?,
                        }
                    }
                    Ok(())
                })?);
            }
        }
        let [ours, limit] = [&mut accesses, &mut empties].map(|times| median(times) / BATCH as f64);
        report(Figure::new(name, ours, "ns", limit, "a refused request of that size", ACCEPTED))?;
    }
    Ok(())
}

fn read(vmm: &mut Client) -> Result<(), ClientError> {
    vmm.call(Command::RegionRead, &[XRES.as_bytes()], |reply, _| {
        let wrong = ClientError::Malformed(Command::RegionRead, "not the width that was set");
        if reply.ends_with(&WIDTH) { Ok(()) } else { Err(wrong) }
    })
}

/// A request with this payload that no server of ours knows.
fn empty(vmm: &mut Client, payload: &[&[u8]]) -> Result<(), Box<dyn Error>> {
    match vmm.call(Command::MigDataRead, payload, |_, _| Ok(())) {
        Err(ClientError::Refused { .. }) => Ok(()),
        Ok(()) => Err("a device of ours migrates: choose another request that is refused".into()),
        Err(error) => Err(error.into()),
    }
}
