//! The 16 bytes before every message.

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::MAX_MSG_FDS;
use crate::abi::Errno;

/// Bytes of a header.
pub const HEADER_SIZE: usize = 16;

/// The header of a message, in the byte order of the host that both ends run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// Chosen by the sender of a command; a reply carries its command's.
    pub id: u16,
    /// [`Command`].
    pub command: u16,
    /// Bytes of the whole message, header included.
    pub size: u32,
    /// Bits 0-3 the [`Kind`], bit 4 no reply wanted, bit 5 error.
    pub flags: u32,
    /// The errno of an error reply.
    pub errno: u32,
}

const _: () = assert!(size_of::<Header>() == HEADER_SIZE);

const FLAG_NO_REPLY: u32 = 1 << 4;
const FLAG_ERROR: u32 = 1 << 5;

/// Bits 0-3 of the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks for something.
    Command,
    /// Answers a command.
    Reply,
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $nr:literal,)*) => {
        /// What a message is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Command { $($(#[$doc])* $name = $nr,)* }

        impl Command {
            /// The command with this number.
            #[must_use]
            pub const fn from_raw(raw: u16) -> Option<Self> {
                match raw { $($nr => Some(Self::$name),)* _ => None }
            }

            /// Its number.
            #[must_use]
            pub const fn raw(self) -> u16 {
                match self { $(Self::$name => $nr,)* }
            }
        }
    };
}

commands! {
    /// `VFIO_USER_VERSION`: the first message.
    Version = 1,
    /// `VFIO_USER_DMA_MAP`
    DmaMap = 2,
    /// `VFIO_USER_DMA_UNMAP`
    DmaUnmap = 3,
    /// `VFIO_USER_DEVICE_GET_INFO`
    GetInfo = 4,
    /// `VFIO_USER_DEVICE_GET_REGION_INFO`
    GetRegionInfo = 5,
    /// `VFIO_USER_DEVICE_GET_REGION_IO_FDS`
    GetRegionIoFds = 6,
    /// `VFIO_USER_DEVICE_GET_IRQ_INFO`
    GetIrqInfo = 7,
    /// `VFIO_USER_DEVICE_SET_IRQS`
    SetIrqs = 8,
    /// `VFIO_USER_REGION_READ`
    RegionRead = 9,
    /// `VFIO_USER_REGION_WRITE`
    RegionWrite = 10,
    /// `VFIO_USER_DMA_READ`, server to client
    DmaRead = 11,
    /// `VFIO_USER_DMA_WRITE`, server to client
    DmaWrite = 12,
    /// `VFIO_USER_DEVICE_RESET`
    Reset = 13,
    /// `VFIO_USER_REGION_WRITE_MULTI`
    RegionWriteMulti = 15,
    /// `VFIO_USER_DEVICE_FEATURE`
    DeviceFeature = 16,
    /// `VFIO_USER_MIG_DATA_READ`
    MigDataRead = 17,
    /// `VFIO_USER_MIG_DATA_WRITE`
    MigDataWrite = 18,
    /// Display extension: the ioctl's own number, far from those the protocol counts up.
    QueryGfxPlane = 0x3b72,
    /// Display extension: the ioctl's own number.
    GetGfxDmabuf = 0x3b73,
    /// Display extension: a console has flips wait for it. No ioctl's number.
    PaceFlips = 0x7600,
}

/// Why a header cannot be followed. The stream has no other framing, so the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Smaller than a header or larger than any message.
    #[error("message size {found}: must be {HEADER_SIZE} to {limit} bytes")]
    Size {
        /// The `size` field.
        found: u32,
        /// Largest message accepted here.
        limit: usize,
    },
    /// More descriptors came with an unfinished message than any message may have.
    #[error("{found} descriptors with an unfinished message: at most {MAX_MSG_FDS} are accepted")]
    Fds {
        /// How many.
        found: usize,
    },
    /// Neither command nor reply.
    #[error("message flags {0:#x} are neither command nor reply")]
    Kind(u32),
}

impl Header {
    /// A command.
    #[must_use]
    pub fn command(id: u16, command: Command, payload: usize) -> Self {
        Self { id, command: command.raw(), size: size_with(payload), flags: 0, errno: 0 }
    }

    /// The reply to this command.
    #[must_use]
    pub fn reply(&self, payload: usize) -> Self {
        Self { size: size_with(payload), flags: 1, errno: 0, ..*self }
    }

    /// The error reply to this command: a header alone.
    #[must_use]
    pub fn error(&self, errno: Errno) -> Self {
        Self { size: size_with(0), flags: 1 | FLAG_ERROR, errno: errno.raw(), ..*self }
    }

    /// Command or reply.
    ///
    /// # Errors
    /// [`HeaderError::Kind`].
    pub fn kind(&self) -> Result<Kind, HeaderError> {
        match self.flags & 0xf {
            0 => Ok(Kind::Command),
            1 => Ok(Kind::Reply),
            _ => Err(HeaderError::Kind(self.flags)),
        }
    }

    /// Whether the sender wants no reply.
    #[must_use]
    pub fn no_reply(&self) -> bool {
        self.flags & FLAG_NO_REPLY != 0
    }

    /// The error that a reply reports, if it does.
    #[must_use]
    pub fn reported_error(&self) -> Option<Errno> {
        (self.flags & FLAG_ERROR != 0).then(|| Errno::from_raw(self.errno))
    }

    /// Checks that the message's length is one that exists, and returns it.
    ///
    /// # Errors
    /// [`HeaderError::Size`].
    pub fn message_size(&self, limit: usize) -> Result<usize, HeaderError> {
        let error = HeaderError::Size { found: self.size, limit };
        let size = usize::try_from(self.size).map_err(|_| error)?;
        if (HEADER_SIZE..=limit).contains(&size) { Ok(size) } else { Err(error) }
    }
}

fn size_with(payload: usize) -> u32 {
    payload.checked_add(HEADER_SIZE).and_then(|size| u32::try_from(size).ok()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::{edges, to_u64, to_usize};

    #[test]
    fn replies_echo_id_and_command() {
        let command = Header { errno: 5, ..Header::command(77, Command::RegionRead, 16) };
        let reply = command.reply(20);
        assert_eq!((reply.id, reply.command, reply.size, reply.flags), (77, 9, 36, 1));
        assert_eq!(reply.errno, 0, "whatever the command said");
        let error = command.error(Errno::EINVAL);
        assert_eq!((error.size, error.flags, error.errno), (16, 0x21, 22));
        assert_eq!(error.reported_error(), Some(Errno::EINVAL));
        assert_eq!(reply.reported_error(), None);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        for size in [0, 15, 1025, u32::MAX] {
            let header = Header { size, ..Header::command(0, Command::Reset, 0) };
            assert!(header.message_size(1024).is_err(), "{size}");
        }
        assert_eq!(Header::command(0, Command::Reset, 0).message_size(1024), Ok(16));
    }

    #[test]
    fn sizes_and_flags_are_right_at_every_edge() {
        for size in edges::U32 {
            let header = Header { size, ..Header::command(0, Command::Reset, 0) };
            for limit in edges::U32 {
                let accepted = header.message_size(to_usize(limit));
                assert_eq!(accepted.is_ok(), (16..=limit).contains(&size), "{size} of at most {limit}");
                assert!(accepted.is_err() || accepted == Ok(to_usize(size)));
            }
        }
        for payload in edges::u64().into_iter().filter_map(|len| usize::try_from(len).ok()) {
            let expected = u32::try_from(u128::from(to_u64(payload)) + 16).unwrap_or(u32::MAX);
            assert_eq!(Header::command(1, Command::Version, payload).size, expected);
        }
        for flags in (0..64).chain(edges::U32) {
            let header = Header { flags, ..Header::command(0, Command::Reset, 0) };
            let kind = match flags % 16 {
                0 => Ok(Kind::Command),
                1 => Ok(Kind::Reply),
                _ => Err(HeaderError::Kind(flags)),
            };
            assert_eq!(header.kind(), kind);
            assert_eq!(header.no_reply(), flags & 16 != 0);
            assert_eq!(header.reported_error().is_some(), flags & 32 != 0);
        }
    }

    #[test]
    fn commands_survive_a_round_trip() {
        let known = (0..=u16::MAX).filter_map(Command::from_raw);
        assert!(known.clone().all(|c| Command::from_raw(c.raw()) == Some(c)));
        assert_eq!(known.count(), 20);
    }
}
