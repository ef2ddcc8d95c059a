//! The connection to a device behind a socket: commands, and the errno that each ends with.

use std::os::fd::OwnedFd;
use std::path::Path;

use vfio_gfx::abi::{Errno, RegionInfo};
use vfio_gfx::vfio_user::{Client, ClientError, Command, RegionAccess, Role};
use zerocopy::{FromBytes, IntoBytes};

/// The connection, and how it ended.
#[derive(Debug)]
pub(super) struct Wire {
    client: Client,
    /// Why it is of no more use.
    lost: Option<ClientError>,
}

impl Wire {
    /// Attaches as a VMM.
    pub(super) fn connect(path: &Path) -> Result<Self, ClientError> {
        Ok(Self { client: Client::connect(path, Role::Vmm)?, lost: None })
    }

    fn call<T>(
        &mut self,
        command: Command,
        payload: &[&[u8]],
        read: impl FnOnce(&[u8], Vec<OwnedFd>) -> Result<T, ClientError>,
    ) -> Result<T, Errno> {
        if self.lost.is_some() {
            return Err(Errno::ENODEV);
        }
        self.client.call(command, payload, read).map_err(|error| match error {
            ClientError::Refused { errno, .. } => errno,
            error => {
                self.lost = Some(error);
                Errno::ENODEV
            }
        })
    }

    /// A command and its whole reply.
    pub(super) fn bytes(
        &mut self,
        command: Command,
        payload: &[u8],
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
        self.call(command, &[payload], |payload, fds| Ok((payload.to_vec(), fds)))
    }

    pub(super) fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let count = u32::try_from(data.len()).map_err(|_| Errno::EINVAL)?;
        let access = RegionAccess { offset, region, count };
        self.call(Command::RegionRead, &[access.as_bytes()], |payload, _| {
            let read = payload.get(size_of::<RegionAccess>()..).filter(|read| read.len() == data.len());
            data.copy_from_slice(read.ok_or(ClientError::Malformed(Command::RegionRead, "wrong length"))?);
            Ok(())
        })
    }

    pub(super) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let count = u32::try_from(data.len()).map_err(|_| Errno::EINVAL)?;
        let access = RegionAccess { offset, region, count };
        self.call(Command::RegionWrite, &[access.as_bytes(), data], |_, _| Ok(()))
    }

    pub(super) fn reset(&mut self) -> Result<(), Errno> {
        self.call(Command::Reset, &[], |_, _| Ok(()))
    }

    /// A region's info, the whole reply, and the descriptor beside it.
    pub(super) fn region_info(
        &mut self,
        index: u32,
    ) -> Result<(RegionInfo, Vec<u8>, Option<OwnedFd>), Errno> {
        // Room for a capability or two, which is what any region of a display has.
        let mut request = [0; 256];
        request[0..4].copy_from_slice(&256u32.to_ne_bytes());
        request[8..12].copy_from_slice(&index.to_ne_bytes());
        let (reply, mut fds) = self.bytes(Command::GetRegionInfo, &request)?;
        let (info, _) = RegionInfo::read_from_prefix(&reply).map_err(|_| Errno::EIO)?;
        Ok((info, reply, fds.pop()))
    }

    /// Whether the connection is still there; else why not, once.
    pub(super) fn check(&mut self) -> Result<(), ClientError> {
        self.lost.take().map_or(Ok(()), Err)
    }
}
