//! `qemu-shim` as its users meet it: what it prints, what it writes, and how it fails.

mod compare;
mod demo;
mod fixture;
mod flips;
mod info;
mod recording;
mod sandboxed;
mod screendump;
mod sums;
mod usage;
mod watching;
