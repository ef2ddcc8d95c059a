//! In place of the KVM guest on architectures it has no program for.

use std::fs::File;

use super::Bars;
pub use super::kvm_error::KvmError;

/// Whether [`run`] can work here: it cannot.
///
/// # Errors
/// Always [`KvmError::Architecture`].
pub fn available() -> Result<(), KvmError> {
    Err(KvmError::Architecture)
}

/// Refuses.
///
/// # Errors
/// Always [`KvmError::Architecture`].
pub fn run(_vram: &File, _vram_size: u64, _bars: &mut dyn Bars) -> Result<(), KvmError> {
    Err(KvmError::Architecture)
}
