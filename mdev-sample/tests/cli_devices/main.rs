//! Several devices of one process: how they are named, defined, added, removed, passed and ended.

mod definitions;
mod ending;
mod many;
mod passed;
mod program;
mod roms;
mod sandbox;
mod unplug;
