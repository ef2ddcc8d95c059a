//! The VNC server, with viewers that behave and viewers that do not.

mod hostile;
mod input;
mod pictures;
mod stage;
mod unplug;
mod viewer;
mod web;
