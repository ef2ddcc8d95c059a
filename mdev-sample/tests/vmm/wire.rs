//! A VMM made of bytes.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

// docs/interop/vfio-user.rst in QEMU.
pub(crate) const VERSION: u16 = 1;
pub(crate) const DMA_MAP: u16 = 2;
pub(crate) const DMA_UNMAP: u16 = 3;
pub(crate) const GET_INFO: u16 = 4;
pub(crate) const GET_REGION_INFO: u16 = 5;
pub(crate) const GET_IRQ_INFO: u16 = 7;
pub(crate) const REGION_READ: u16 = 9;
pub(crate) const REGION_WRITE: u16 = 10;
pub(crate) const RESET: u16 = 13;

/// What came back. No VMM of these tests may get an error.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

pub(crate) struct Wire {
    stream: UnixStream,
    next_id: u16,
    /// Ids whose replies are awaited, in order.
    awaited: Vec<(u16, u16)>,
}

pub(crate) fn u32s(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

pub(crate) fn u64s(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The fixed part of a region access.
pub(crate) fn access(region: u32, offset: u64, count: usize) -> Vec<u8> {
    [u64s(&[offset]), u32s(&[region, u32::try_from(count).unwrap()])].concat()
}

impl Wire {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        // QEMU gives up after five seconds.
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { stream, next_id: 0, awaited: Vec::new() }
    }

    /// Sends a message, in pieces of this many bytes, with a descriptor on the first.
    pub(crate) fn send_in(
        &mut self,
        piece: usize,
        command: u16,
        payload: &[u8],
        fd: Option<&OwnedFd>,
    ) -> usize {
        let size = u32::try_from(16 + payload.len()).unwrap();
        let header = [self.next_id.to_ne_bytes(), command.to_ne_bytes()].concat();
        let message = [header, u32s(&[size, 0, 0]), payload.to_vec()].concat();
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        let rights = fd.map(|fd| [fd.as_fd()]);
        if let Some(rights) = &rights {
            assert!(control.push(SendAncillaryMessage::ScmRights(rights)));
        }
        for (n, piece) in message.chunks(piece).enumerate() {
            if n == 0 {
                let (piece, flags) = ([IoSlice::new(piece)], SendFlags::NOSIGNAL);
                let sent = retry_on_intr(|| sendmsg(&self.stream, &piece, &mut control, flags)).unwrap();
                assert_eq!(sent, piece[0].len());
            } else {
                self.stream.write_all(piece).unwrap();
            }
        }
        self.awaited.push((self.next_id, command));
        self.next_id = self.next_id.wrapping_add(1);
        message.len()
    }

    /// The next reply, read as QEMU does: the header whole in one read, descriptors only with it, no error, and no more
    /// bytes than there is room for.
    pub(crate) fn reply(&mut self, room_for: usize) -> Reply {
        let (id, command) = self.awaited.remove(0);
        let mut header = [0; 16];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::CMSG_CLOEXEC;
        // A socket with a time-out says EINTR to a process that was stopped and goes on (signal(7)).
        let received =
            retry_on_intr(|| recvmsg(&self.stream, &mut [IoSliceMut::new(&mut header)], &mut control, flags));
        let received = received.unwrap();
        assert_eq!(received.bytes, 16, "the header comes whole");
        assert_eq!(header[..4], [id.to_ne_bytes(), command.to_ne_bytes()].concat(), "id and command");
        assert_eq!(header[8..], u32s(&[1, 0]), "a reply to {command} that reports no error");
        let fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => Some(rights),
                _ => None,
            })
            .flatten()
            .collect();
        let size = u32_at(&header, 4) as usize;
        assert!(size <= room_for, "reply to {command}: {size} bytes, the VMM has room for {room_for}");
        let mut payload = vec![0; size - 16];
        self.stream.read_exact(&mut payload).unwrap();
        Reply { payload, fds }
    }

    /// A command and its reply, which is no longer than the command, or than `room_for` bytes if those are more.
    pub(crate) fn ask(&mut self, command: u16, payload: &[u8], room_for: usize) -> Reply {
        let sent = self.send_in(usize::MAX, command, payload, None);
        self.reply(sent.max(room_for))
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, count: usize) -> Vec<u8> {
        let request = access(region, offset, count);
        let reply = self.ask(REGION_READ, &request, 32 + count).payload;
        assert_eq!((&reply[..16], reply.len()), (&request[..], 16 + count));
        reply[16..].to_vec()
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) {
        let request = access(region, offset, data.len());
        let reply = self.ask(REGION_WRITE, &[&request, data].concat(), 0).payload;
        assert_eq!(reply, request);
    }
}
