//! What the benches and the `ratios` program share: a device to ask, a picture to show, and fair comparison.
//!
//! The benches (`cargo bench -p vfio-gfx-benches`) tell how long one operation takes on this machine; they are for
//! whoever works on that operation. The program `ratios` tells how far it is from its limit, measured beside it in the
//! same run; those numbers can be compared between machines, and have a bound. README.md has both.

pub mod compare;
pub mod desktop;
pub mod device;
pub mod figure;
