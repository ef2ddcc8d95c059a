//! The commands that work on devices of this process or answers of others.

mod abi_fuzz;
mod replay;
mod types;

pub(crate) use abi_fuzz::AbiFuzz;
pub(crate) use replay::Replay;
pub(crate) use types::Types;

use mdev_sample::{DeviceType, UnknownType};

/// For clap.
pub(crate) fn parse_type(name: &str) -> Result<DeviceType, UnknownType> {
    DeviceType::find(name)
}
