//! Devices that outlive their processes: definitions as mdevctl keeps them, and the commands that make, list and remove
//! them. A running `serve --definitions` follows what they do.

mod commands;
mod definition;
mod directory;
mod room;

pub(crate) use commands::{Create, List, Remove};
pub(crate) use definition::Definition;
pub(crate) use directory::Directory;
pub(crate) use room::Room;
