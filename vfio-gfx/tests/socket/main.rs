//! A device on a real socket, and peers that are raw bytes: what a VMM, a console or an attacker sees.
//!
//! Nothing here uses the crate's own codec to speak: a mistake on both sides of it would cancel out.

mod answers;
mod changes;
mod config;
mod fake;
mod fixture;
mod guest;
mod hostile;
mod hostile_vmm;
mod liars;
mod nonsense;
mod pace;
mod peer;
mod random;
mod roles;
mod stream;
mod unplug;
