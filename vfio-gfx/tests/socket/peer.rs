//! A client made of bytes.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Far above what a server on this machine needs, far below for ever.
const TIMEOUT: Duration = Duration::from_secs(10);
/// `SCM_MAX_FD` (`include/net/scm.h`): Linux sends no more descriptors at once.
pub(crate) const MOST_FDS: usize = 253;

// Command numbers: docs/interop/vfio-user.rst in QEMU, and the display extension's chapter in the book.
pub(crate) const VERSION: u16 = 1;
pub(crate) const DMA_MAP: u16 = 2;
pub(crate) const DMA_UNMAP: u16 = 3;
pub(crate) const GET_INFO: u16 = 4;
pub(crate) const GET_REGION_INFO: u16 = 5;
pub(crate) const GET_IRQ_INFO: u16 = 7;
pub(crate) const SET_IRQS: u16 = 8;
pub(crate) const REGION_READ: u16 = 9;
pub(crate) const REGION_WRITE: u16 = 10;
pub(crate) const RESET: u16 = 13;
pub(crate) const QUERY_GFX_PLANE: u16 = 0x3b72;
pub(crate) const GET_GFX_DMABUF: u16 = 0x3b73;

pub(crate) const CONSOLE: &str = r#"{"capabilities":{"vfio_gfx":{"version":1,"role":"console"}}}"#;
pub(crate) const VMM: &str = r#"{"capabilities":{"max_msg_fds":8}}"#;

/// Bit 4 of the flags.
pub(crate) const NO_REPLY: u32 = 0x10;

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) id: u16,
    pub(crate) command: u16,
    pub(crate) flags: u32,
    pub(crate) errno: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Reply {
    /// Its payload, if it is a reply that reports no error.
    pub(crate) fn ok(self) -> Vec<u8> {
        assert_eq!((self.flags, self.errno), (1, 0), "{self:?}");
        self.payload
    }

    /// The errno it reports, 0 for none.
    pub(crate) fn refusal(&self) -> u32 {
        assert_eq!(self.flags, if self.errno == 0 { 1 } else { 0x21 }, "{self:?}");
        if self.errno != 0 {
            assert!(
                self.payload.is_empty() && self.fds.is_empty(),
                "an error reply is a header alone: {self:?}"
            );
        }
        self.errno
    }
}

/// A message with a size that is right.
pub(crate) fn message(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    sized(id, command, flags, u32::try_from(16 + payload.len()).unwrap(), payload)
}

/// A message with any size field.
pub(crate) fn sized(id: u16, command: u16, flags: u32, size: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [id.to_ne_bytes(), command.to_ne_bytes()].concat();
    bytes.extend(words(&[size, flags, 0]));
    bytes.extend(payload);
    bytes
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The payload of VERSION 0.1.
pub(crate) fn version(json: &str) -> Vec<u8> {
    [&[0, 0, 1, 0], json.as_bytes(), &[0]].concat()
}

/// The payload of `REGION_READ`, or of `REGION_WRITE` before its data.
pub(crate) fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    [&offset.to_ne_bytes()[..], &words(&[region, count])].concat()
}

pub(crate) fn write_payload(region: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    [access(region, offset, u32::try_from(data.len()).unwrap()), data.to_vec()].concat()
}

/// Argument 4: `struct vfio_region_info`, 32 bytes.
pub(crate) fn region_info(index: u32, argsz: u32) -> Vec<u8> {
    words(&[argsz, 0, index, 0, 0, 0, 0, 0])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: UnixStream,
    next_id: u16,
}

impl From<UnixStream> for Peer {
    fn from(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        Self { stream, next_id: 100 }
    }
}

impl Peer {
    /// A connection that has said nothing.
    pub(crate) fn connect(path: &Path) -> Self {
        Self::from(UnixStream::connect(path).unwrap())
    }

    /// A connection that has negotiated.
    pub(crate) fn attach(path: &Path, capabilities: &str) -> Self {
        let mut peer = Self::connect(path);
        peer.ask(VERSION, &version(capabilities)).ok();
        peer
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends bytes, with descriptors on the first. False when the other side has closed.
    pub(crate) fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let flags = SendFlags::NOSIGNAL;
        let sent = match retry_on_intr(|| sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut control, flags))
        {
            Ok(sent) => sent,
            Err(Errno::PIPE | Errno::CONNRESET) => return false,
            Err(errno) => panic!("sendmsg: {errno}"),
        };
        self.stream.write_all(&bytes[sent..]).is_ok()
    }

    /// Nothing more will be sent.
    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next reply, `None` when the other side has closed. Reads as QEMU does: the header whole in one read, and
    /// descriptors only with it.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let mut header = [0; 16];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::CMSG_CLOEXEC;
        // A socket with a time-out says EINTR to a process that was stopped and goes on (signal(7)).
        let received =
            retry_on_intr(|| recvmsg(&self.stream, &mut [IoSliceMut::new(&mut header)], &mut control, flags));
        match received {
            Ok(received) if received.bytes == 0 => return None,
            Ok(received) => assert_eq!(received.bytes, header.len(), "a header comes whole"),
            Err(Errno::CONNRESET) => return None,
            Err(errno) => panic!("no reply: {errno}"),
        }
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        let fds = rights.flatten().collect();
        let mut payload = vec![0; u32_at(&header, 4) as usize - header.len()];
        self.stream.read_exact(&mut payload).unwrap();
        Some(Reply {
            id: u16::from_ne_bytes([header[0], header[1]]),
            command: u16::from_ne_bytes([header[2], header[3]]),
            flags: u32_at(&header, 8),
            errno: u32_at(&header, 12),
            payload,
            fds,
        })
    }

    /// One command, one reply.
    pub(crate) fn ask(&mut self, command: u16, payload: &[u8]) -> Reply {
        self.ask_with(command, payload, &[])
    }

    /// The same with descriptors.
    pub(crate) fn ask_with(&mut self, command: u16, payload: &[u8], fds: &[&OwnedFd]) -> Reply {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        assert!(self.send(&message(id, command, 0, payload), &fds), "the server hung up");
        let reply = self.reply().expect("a reply");
        assert_eq!((reply.id, reply.command), (id, command));
        reply
    }

    /// Bytes of a region.
    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> Vec<u8> {
        let reply = self.ask(REGION_READ, &access(region, offset, count)).ok();
        assert_eq!(reply[..16], access(region, offset, count));
        assert_eq!(reply.len(), 16 + count as usize);
        reply[16..].to_vec()
    }

    /// Writes a region.
    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) {
        let reply = self.ask(REGION_WRITE, &write_payload(region, offset, data)).ok();
        assert_eq!(reply, access(region, offset, u32::try_from(data.len()).unwrap()));
    }

    /// Waits until the other side has closed; replies that come before are skipped.
    pub(crate) fn wait_closed(mut self) {
        while self.reply().is_some() {}
    }
}
