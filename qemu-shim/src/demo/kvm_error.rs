//! What can go wrong with a guest on a vCPU; the same on every architecture.

use std::io;

use super::{DriverError, VramError};

/// Why there is no KVM guest, or why it ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// The guest is an x86-64 program.
    #[error("no KVM demo on this architecture: the guest needs x86-64")]
    Architecture,
    /// No KVM here, or no permission to use it.
    #[error("cannot open /dev/kvm: {0}")]
    Open(#[source] io::Error),
    /// A KVM that is not the one everybody has had since 2007.
    #[error("KVM speaks API version {found}, expected 12")]
    Version {
        /// What `KVM_GET_API_VERSION` answered.
        found: i32,
    },
    /// `KVM_CAP_USER_MEMORY` is missing: VRAM could not be shared with the guest.
    #[error("KVM cannot give user memory to a guest")]
    NoUserMemory,
    /// A KVM ioctl failed.
    #[error("{call}: {source}")]
    Ioctl {
        /// Its name.
        call: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// The guest's memory could not be made.
    #[error("cannot make {size} bytes of guest RAM: {reason}")]
    Ram {
        /// Size in bytes.
        size: usize,
        /// What vm-memory says.
        reason: String,
    },
    /// VRAM could not be mapped.
    #[error(transparent)]
    Vram(#[from] VramError),
    /// The guest's driver found no usable display.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The vCPU shut down: a fault for which there was no handler.
    #[error("guest died of a triple fault at {eip:#x}")]
    TripleFault {
        /// Instruction pointer.
        eip: u64,
    },
    /// The vCPU stopped for something the guest program never does.
    #[error("unexpected vCPU exit at {eip:#x}: {exit}")]
    UnexpectedExit {
        /// The exit and its arguments.
        exit: String,
        /// Instruction pointer.
        eip: u64,
    },
    /// The guest keeps accessing the device but completes no frame.
    #[error("guest is stuck at {eip:#x}: {exits} exits without a frame")]
    Stuck {
        /// vCPU exits since the last frame.
        exits: u32,
        /// Instruction pointer.
        eip: u64,
    },
    /// [`Bars::interrupted`](super::Bars::interrupted) asked to stop.
    #[error("guest was interrupted at {eip:#x} before its next frame")]
    Interrupted {
        /// Instruction pointer.
        eip: u64,
    },
}
