//! A display server that is honest until a test tells it to lie.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use vfio_gfx::abi::Interface;
use vfio_gfx::memory::Vram;

use crate::peer::{
    GET_GFX_DMABUF, GET_INFO, GET_IRQ_INFO, GET_REGION_INFO, Peer, QUERY_GFX_PLANE, REGION_READ, Reply,
    VERSION, message, u32_at, u64_at, version, words,
};

pub(crate) const VRAM_SIZE: u64 = 0x1_0000;
pub(crate) const WIDTH: u32 = 64;
pub(crate) const HEIGHT: u32 = 48;
/// No padding: the last byte counts.
pub(crate) const STRIDE: u32 = 4 * WIDTH;
pub(crate) const BYTES: u32 = STRIDE * HEIGHT;
/// What every pixel's bytes are.
pub(crate) const PIXEL: u8 = 0x5a;
pub(crate) const EDID: u32 = 9;

/// What a server answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A reply with descriptors.
    Reply(Vec<u8>, Vec<OwnedFd>),
    /// An error reply.
    Refuse(u32),
    /// Whatever bytes, and descriptors with them.
    Raw(Vec<u8>, Vec<OwnedFd>),
    /// Whatever bytes in pieces, a descriptor with each.
    Pieces(Vec<Vec<u8>>, OwnedFd),
    /// Whatever bytes, and the connection's end.
    End(Vec<u8>),
    /// Nothing, for ever.
    Silence,
    /// The reply, a byte at a time, with this much time between.
    Drip(Vec<u8>, Duration),
}

/// What a client asked. The number counts its messages from 0.
pub(crate) type Request = Reply;

/// An honest display: a sealed memfd, one plane, an EDID.
pub(crate) struct Honest {
    vram: Vram,
    interface: Interface,
}

impl Honest {
    fn new(interface: Interface) -> Self {
        let vram = Vram::new("honest", VRAM_SIZE).unwrap();
        vram.fill(0, VRAM_SIZE, PIXEL);
        Self { vram, interface }
    }

    pub(crate) fn memory(&self) -> OwnedFd {
        self.vram.reopen_read_only().unwrap()
    }

    /// Format, modifier, size and place of the plane, as in the reply.
    pub(crate) fn plane(&self, request: &[u8]) -> Vec<u8> {
        let handle = if self.interface == Interface::Region { 0 } else { 1 };
        let format = u32::from_le_bytes(*b"XR24");
        let plane = [format, 0, 0, WIDTH, HEIGHT, STRIDE, BYTES, 0, 0, u32::MAX, u32::MAX, handle, 0, 0, 0];
        [&request[..12], &words(&plane)].concat()
    }

    /// The reply to `GET_REGION_INFO`.
    pub(crate) fn region(&self, index: u32) -> Answer {
        let info = |argsz, flags, caps, size: u64| {
            [words(&[argsz, flags, index, caps]), [size, 0].map(u64::to_ne_bytes).concat()].concat()
        };
        match index {
            0 => Answer::Reply(info(32, 5, 0, VRAM_SIZE), vec![self.memory()]),
            EDID => {
                let cap = [&[2, 0, 1, 0, 0, 0, 0, 0][..], &words(&[1, 1])].concat();
                Answer::Reply([info(48, 11, 32, 4096), cap].concat(), vec![])
            }
            _ => Answer::Reply(info(32, 0, 0, 0), vec![]),
        }
    }

    pub(crate) fn edid_region() -> Vec<u8> {
        let mut region = words(&[0x800, 0x400, 128, 0, 0, 1]);
        region.resize(0x800, 0);
        region.extend([0xed; 128]);
        region.resize(4096, 0);
        region
    }

    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let payload = &request.payload;
        let reply = match request.command {
            VERSION => version(r#"{"capabilities":{"vfio_gfx":{"version":1}}}"#),
            GET_INFO => words(&[16, 3, 10, 5]),
            GET_REGION_INFO => return self.region(u32_at(payload, 8)),
            GET_IRQ_INFO => words(&[16, 0, u32_at(payload, 8), 0]),
            REGION_READ => {
                let (start, count) =
                    (usize::try_from(u64_at(payload, 0)).unwrap(), u32_at(payload, 12) as usize);
                [&payload[..16], &Self::edid_region()[start..start + count]].concat()
            }
            QUERY_GFX_PLANE => match (u32_at(payload, 4), self.interface) {
                (5, Interface::Region) | (3, Interface::Dmabuf) => [&payload[..], &[0; 8]].concat(),
                (4, Interface::Region) | (2, Interface::Dmabuf) => self.plane(payload),
                _ => return Answer::Refuse(22),
            },
            GET_GFX_DMABUF => {
                let place = [0, VRAM_SIZE].map(u64::to_ne_bytes).concat();
                return Answer::Reply([words(&[u32_at(payload, 0), 2]), place].concat(), vec![self.memory()]);
            }
            other => panic!("a console sent command {other}"),
        };
        Answer::Reply(reply, vec![])
    }
}

/// A server for one connection.
pub(crate) struct Fake {
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
    _dir: TempDir,
}

/// Ends when its client has gone, and takes its descriptors with it.
impl Drop for Fake {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

impl Fake {
    /// `lie` is asked first, with the number of the message; what it leaves is answered honestly.
    pub(crate) fn start(
        interface: Interface,
        mut lie: impl FnMut(usize, &Request, &Honest) -> Option<Answer> + Send + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let mut client = Peer::from(listener.accept().unwrap().0);
            let honest = Honest::new(interface);
            for number in 0.. {
                let Some(request) = client.reply() else { return };
                let answer = lie(number, &request, &honest).unwrap_or_else(|| honest.answer(&request));
                if !send(&mut client, &request, answer) {
                    return;
                }
            }
        });
        Self { path, thread: Some(thread), _dir: dir }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// False when that was the last.
fn send(client: &mut Peer, request: &Request, answer: Answer) -> bool {
    let reply = |payload: &[u8]| message(request.id, request.command, 1, payload);
    match answer {
        Answer::Reply(payload, fds) => send_all(client, &reply(&payload), &fds),
        Answer::Raw(bytes, fds) => send_all(client, &bytes, &fds),
        Answer::Pieces(pieces, fd) => pieces.iter().all(|piece| client.send(piece, &[fd.as_fd()])),
        Answer::Refuse(errno) => {
            let mut header = message(request.id, request.command, 0x21, &[]);
            header[12..16].copy_from_slice(&errno.to_ne_bytes());
            send_all(client, &header, &[])
        }
        Answer::End(bytes) => {
            send_all(client, &bytes, &[]);
            false
        }
        Answer::Silence => {
            // Until the client goes.
            while client.reply().is_some() {}
            false
        }
        Answer::Drip(payload, pause) => {
            for byte in reply(&payload) {
                if client.stream().write_all(&[byte]).is_err() {
                    return false;
                }
                std::thread::sleep(pause);
            }
            true
        }
    }
}

fn send_all(client: &mut Peer, bytes: &[u8], fds: &[OwnedFd]) -> bool {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    bytes.is_empty() || client.send(bytes, &fds)
}
