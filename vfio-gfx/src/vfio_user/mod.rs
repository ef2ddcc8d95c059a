//! vfio-user: VFIO over a Unix socket.
//!
//! The protocol (QEMU's `docs/interop/vfio-user.rst`) carries the VFIO ioctls as messages between a VMM and a device in
//! another process. It has no graphics messages; [`extension`] adds some, negotiated so that stock VMMs never see them
//! (specified in the book's chapter "The display extension").
//!
//! The codec ([`Header`], [`Inbox`], [`Version`], [`Session`]) does no I/O: bytes and descriptors in, bytes and
//! descriptors out, so that a fuzzer can drive it. Around it, [`Server`] is an event loop that serves one VMM and any
//! number of consoles for each of its devices, and [`Client`] is the console's side.

mod answers;
mod client;
mod dma;
pub mod extension;
mod header;
mod inbox;
mod pace;
mod payload;
mod refusal;
#[expect(clippy::arithmetic_side_effects, reason = "shell: counts of its own connections")]
mod server;
mod session;
mod socket;
mod version;

use crate::memory::MAX_GUEST_RANGES;

pub use client::{Client, ClientError};
pub use header::{Command, HEADER_SIZE, Header, HeaderError, Kind};
pub use inbox::{Inbox, Message};
pub use payload::{DmaMap, DmaUnmap, RegionAccess};
pub use server::{
    BindError, BoundSocket, EndpointId, MAX_CONNECTIONS, Server, ServerError, ServerEvent, Stopper, Until,
    WatchId,
};
pub use session::{Ending, Outbox, Session, VmmSlot};
pub use version::{Capabilities, EXTENSION_VERSION, Role, Version, VersionError};

/// Most DMA ranges a VMM may announce; what QEMU proposes.
pub const MAX_DMA_MAPS: usize = MAX_GUEST_RANGES;

/// Most descriptors in one message, either way. QEMU refuses a server that says more than 16.
pub const MAX_MSG_FDS: usize = 8;

/// Most data bytes in one region access; the protocol's default.
pub const MAX_DATA_XFER: usize = 1 << 20;

/// Longest message accepted: a region write of [`MAX_DATA_XFER`] bytes. Nothing is allocated for more.
pub const MAX_MESSAGE: usize = HEADER_SIZE + 16 + MAX_DATA_XFER;
