//! `qemu-shim` as its users meet it: what it prints, what it writes, and how it fails.

mod demo;
mod fixture;
mod info;
mod screendump;
mod sums;
mod usage;
