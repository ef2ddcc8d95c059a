//! Inputs to start from, written down as the operations they are: what drivers, VMMs and consoles really do.
//!
//! `cargo run -p vfio-gfx-fuzz --bin seeds` puts them into `fuzz/corpus`. The replay test runs them as they are here.

mod device;
mod edid;
mod picture;
mod small;
mod wire;
mod world;

pub use device::{ioctl, registers};
pub use edid::{edid_generate, edid_parse};
pub use picture::{refresh, viewers};
pub use small::{caps, plane_info, version};
pub use wire::{messages, session};
pub use world::world;

/// A number as the targets read one.
fn number(n: u32) -> Vec<u8> {
    match u8::try_from(n) {
        Ok(small @ 0..64) => vec![small],
        _ => [&[0xff], n.to_le_bytes().as_slice()].concat(),
    }
}

fn numbers(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|n| number(*n)).collect()
}

fn count(list: &[u32]) -> u8 {
    u8::try_from(list.len()).unwrap_or(u8::MAX)
}

/// Operation 6 of the `ioctl` and `messages` targets.
fn mode(width: u16, height: u16) -> Vec<u8> {
    [&[6], width.to_le_bytes().as_slice(), &height.to_le_bytes()].concat()
}

/// An operation that sets a plane: which, format, and its numbers from the start of the buffer on.
fn plane(operation: u8, which: u8, format: u8, list: [u32; 10]) -> Vec<u8> {
    [&[operation, which, format], numbers(&list).as_slice()].concat()
}

const SCREEN: [u32; 10] = [4096, 2560, 640, 480, 0, 0, 0, 0, 0, 0];
const CURSOR: [u32; 10] = [0x20_0000, 512, 64, 64, u32::MAX - 4, 7, 3, 4, 1, 2];
