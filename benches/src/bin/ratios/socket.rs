//! A plane query over a socket against a bare exchange of as many bytes: what two processes cannot do without.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use vfio_gfx::abi::Interface;
use vfio_gfx::vfio_user::extension::PlaneReply;
use vfio_gfx::vfio_user::{ClientError, Command as Message, HEADER_SIZE};
use vfio_gfx_benches::compare::{Clock, Plan, compare};
use vfio_gfx_benches::device::{HD, TYPE, query, set_mode};
use vfio_gfx_benches::figure::Figure;

use crate::Report;
use crate::placement::Cpus;
use crate::programs::{Running, Served};

/// The argument that makes this program the other end of the bare exchange, on its stdin.
pub(crate) const PEER: &str = "--peer";

const PLAN: Plan = Plan { rounds: 2500, batch: 10, clock: Clock::Wall };

/// Bytes of a query and of its reply.
const REQUEST: usize = HEADER_SIZE + 64;
const REPLY: usize = HEADER_SIZE + size_of::<PlaneReply>();
const _: () = assert!(REQUEST == 80 && REPLY == 88);

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut served = Served::start(TYPE)?;
    set_mode(&mut served.vmm, HD)?;
    let mut console = served.console()?;
    let (peer, mut stream) = start_peer()?;
    let cpus = Cpus::of_this_process()?;
    for (apart, interface, name) in [
        (false, Interface::Region, "query over a socket, region, on one CPU"),
        (false, Interface::Dmabuf, "query over a socket, dmabuf, on one CPU"),
        (true, Interface::Region, "query over a socket, region, on two CPUs"),
        (true, Interface::Dmabuf, "query over a socket, dmabuf, on two CPUs"),
    ] {
        cpus.place(&[served.pid(), peer.0.id()], apart)?;
        let request = query(interface);
        let ours = || -> Result<(), Box<dyn Error>> {
            Ok(console.call(Message::QueryGfxPlane, &[&request], |payload, _| {
                if payload.len() + HEADER_SIZE == REPLY {
                    Ok(())
                } else {
                    Err(ClientError::Malformed(Message::QueryGfxPlane, "not the size that is compared with"))
                }
            })?)
        };
        let bare = || -> Result<(), Box<dyn Error>> {
            stream.write_all(&[1; REQUEST])?;
            Ok(stream.read_exact(&mut [0; REPLY])?)
        };
        let medians = compare(PLAN, ours, bare)?;
        report(Figure::timed(name, medians, "bare exchange of 80 and 88 bytes", 1.5))?;
    }
    Ok(())
}

/// This program again, in a process of its own as the server is.
fn start_peer() -> io::Result<(Running, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let peer = Command::new(std::env::current_exe()?)
        .arg(PEER)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((Running(peer), ours))
}

/// The other end: reads requests and writes replies until the stream ends.
pub(crate) fn peer() -> io::Result<()> {
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut request = [0; REQUEST];
    loop {
        match stream.read_exact(&mut request) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            result => result?,
        }
        stream.write_all(&[2; REPLY])?;
    }
}
