//! What must hold for any input.
//!
//! Every function here takes a fuzzer's bytes, does with them what its documentation says, and panics when what it
//! promises ("oracle") does not hold: the panic is the bug report. `fuzz/README.md` tells how to run them; the test in
//! `tests/replay.rs` runs every input that is kept in the repository through them with a stable toolchain.
//!
//! Inputs are little programs: structured ones are read front to back through the `arbitrary` crate, one operation
//! after another, so that a fuzzer's mutations stay local.
#![expect(clippy::missing_panics_doc, reason = "the panic is the point")]

mod caps;
mod edid;
mod gifts;
mod ids;
mod input;
mod ioctl;
mod messages;
mod peer;
mod plane_info;
mod refresh;
mod registers;
pub mod seeds;
mod session;
mod state;
mod subject;
mod version;
mod viewers;
mod world;

pub use caps::caps;
pub use edid::{edid_generate, edid_parse};
pub use ioctl::ioctl;
pub use messages::messages;
pub use plane_info::plane_info;
pub use refresh::refresh;
pub use registers::registers;
pub use session::session;
pub use version::version;
pub use viewers::viewers;
pub use world::world;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of the function, of the cargo-fuzz target, and of its folders in `fuzz/corpus` and
    /// `fuzz/regressions`.
    pub name: &'static str,
    /// Runs one input; panics when the oracle finds a bug.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 12] = [
    Target { name: "ioctl", run: ioctl, seeds: seeds::ioctl },
    Target { name: "registers", run: registers, seeds: seeds::registers },
    Target { name: "session", run: session, seeds: seeds::session },
    Target { name: "messages", run: messages, seeds: seeds::messages },
    Target { name: "version", run: version, seeds: seeds::version },
    Target { name: "edid_parse", run: edid_parse, seeds: seeds::edid_parse },
    Target { name: "edid_generate", run: edid_generate, seeds: seeds::edid_generate },
    Target { name: "caps", run: caps, seeds: seeds::caps },
    Target { name: "plane_info", run: plane_info, seeds: seeds::plane_info },
    Target { name: "refresh", run: refresh, seeds: seeds::refresh },
    Target { name: "viewers", run: viewers, seeds: seeds::viewers },
    Target { name: "world", run: world, seeds: seeds::world },
];
