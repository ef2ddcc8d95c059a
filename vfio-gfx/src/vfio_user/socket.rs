//! Bytes and descriptors over a Unix stream socket.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::MAX_MSG_FDS;

/// Room for one descriptor more than a message may carry, so that too many are noticed and not merely cut off.
const RECV_FDS: usize = MAX_MSG_FDS + 1;

/// Reads what is there into `space`. Returns 0 at the end of the stream.
///
/// # Errors
/// What `recvmsg(2)` says; `EMSGSIZE` when more descriptors came than fit (the kernel has closed the excess).
pub(super) fn receive(socket: BorrowedFd<'_>, space: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RECV_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let received = recvmsg(socket, &mut [IoSliceMut::new(space)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok((received.bytes, fds))
}

/// Sends what the socket takes of `bytes`, with these descriptors on the first. Never raises `SIGPIPE`.
///
/// # Errors
/// What `sendmsg(2)` says.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[OwnedFd]) -> Result<usize, Errno> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_MSG_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    let mut borrowed = [socket; MAX_MSG_FDS];
    for (slot, fd) in borrowed.iter_mut().zip(fds) {
        *slot = fd.as_fd();
    }
    let borrowed = borrowed.get(..fds.len()).ok_or(Errno::MSGSIZE)?;
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(borrowed)) {
        return Err(Errno::MSGSIZE);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}
