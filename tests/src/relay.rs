//! A relay between a console and the real server, which can end a conversation at any byte of any reply.
//!
//! What a console sees of a server that died is a stream that ends: before a reply, within its header, behind its header,
//! within its payload, with or without the descriptors that came with it.

use std::io::{IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, spawn};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tempfile::TempDir;

/// Bytes of a message's header; its size is in the second word.
const HEADER: usize = 16;
/// More descriptors than any message has.
const DESCRIPTORS: usize = 16;

/// Where the conversation ends, over all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Replies that pass.
    pub replies: usize,
    /// Bytes that pass of the next, at most all but one.
    pub bytes: usize,
}

/// A relay on a socket of its own.
#[derive(Debug)]
pub struct Relay {
    path: PathBuf,
    replies: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _dir: TempDir,
}

/// Why a connection is over.
enum Over {
    /// One of the two is gone.
    Gone,
    /// This is the cut.
    Cut,
}

struct Wire {
    client: UnixStream,
    server: UnixStream,
}

impl Relay {
    /// Relays to the server at `server`; at the cut, does `at_cut` and then is gone: its connection, and its socket.
    ///
    /// # Panics
    /// If there is no directory to listen in.
    #[must_use]
    pub fn start(server: &Path, cut: Option<Cut>, at_cut: impl FnOnce() + Send + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let path = dir.path().join("relay.sock");
        let listener = UnixListener::bind(&path).expect("a relay can listen");
        let (replies, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = spawn({
            let (path, server) = (path.clone(), server.to_owned());
            let (replies, stop) = (Arc::clone(&replies), Arc::clone(&stop));
            move || {
                while let Ok((client, _)) = listener.accept() {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let Ok(server) = UnixStream::connect(&server) else { continue };
                    let mut wire = Wire { client, server };
                    if let Over::Cut = wire.run(cut, &replies) {
                        let _ = std::fs::remove_file(&path);
                        drop(listener);
                        at_cut();
                        return;
                    }
                }
            }
        });
        Self { path, replies, stop, thread: Some(thread), _dir: dir }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replies that have passed.
    #[must_use]
    pub fn replies(&self) -> usize {
        self.replies.load(Ordering::Acquire)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = UnixStream::connect(&self.path);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking(), "the relay panicked");
    }
}

impl Wire {
    fn run(&mut self, cut: Option<Cut>, replies: &AtomicUsize) -> Over {
        loop {
            let mut fds = [&self.client, &self.server].map(|stream| PollFd::new(stream, PollFlags::IN));
            if poll(&mut fds, None).is_err() {
                continue;
            }
            let [from_client, from_server] = fds.map(|fd| !fd.revents().is_empty());
            if from_server {
                let Some((reply, descriptors)) = read_message(&mut self.server) else { return Over::Gone };
                let passed = replies.load(Ordering::Acquire);
                if let Some(cut) = cut.filter(|cut| cut.replies == passed) {
                    if cut.bytes > 0 {
                        let _ = send(&self.client, &reply[..cut.bytes.min(reply.len() - 1)], &descriptors);
                    }
                    return Over::Cut;
                }
                if !send(&self.client, &reply, &descriptors) {
                    return Over::Gone;
                }
                replies.store(passed + 1, Ordering::Release);
            } else if from_client {
                let mut buffer = vec![0; 1 << 16];
                match receive(&self.client, &mut buffer) {
                    Some((len, descriptors)) if len > 0 => {
                        if !send(&self.server, &buffer[..len], &descriptors) {
                            return Over::Gone;
                        }
                    }
                    _ => return Over::Gone,
                }
            }
        }
    }
}

fn read_message(stream: &mut UnixStream) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut message = vec![0; HEADER];
    let (mut len, descriptors) = receive(stream, &mut message)?;
    if len == 0 {
        return None;
    }
    while len < HEADER {
        let more = stream.read(&mut message[len..]).ok().filter(|more| *more > 0)?;
        len += more;
    }
    let size = u32::from_ne_bytes(message[4..8].try_into().ok()?) as usize;
    message.resize(size.max(HEADER), 0);
    stream.read_exact(&mut message[HEADER..]).ok()?;
    Some((message, descriptors))
}

fn receive(stream: &UnixStream, buffer: &mut [u8]) -> Option<(usize, Vec<OwnedFd>)> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let received =
        recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Some((received.bytes, descriptors))
}

/// Sends all of it, the descriptors with the first byte. Returns whether the other side took it.
#[must_use]
pub fn send(stream: &UnixStream, mut bytes: &[u8], descriptors: &[OwnedFd]) -> bool {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    while !bytes.is_empty() {
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
            return false;
        }
        match sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(_) => return false,
        }
        borrowed.clear();
    }
    true
}
