//! 64 devices in one server, each with a VMM that asks nothing, against one.

use std::error::Error;
use std::thread::sleep;

use vfio_gfx_benches::figure::Figure;

use crate::Report;
use crate::idle::{IDLE, SETTLE, context_switches, memory};
use crate::programs::Many;

/// A type of whose video memory nothing is touched before a guest does.
const TYPE: &str = "mbochs-small";
const DEVICES: usize = 64;

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let one = Many::start(TYPE, 1)?;
    let many = Many::start(TYPE, DEVICES)?;
    sleep(SETTLE);
    let before = context_switches(many.pid())?;
    sleep(IDLE);
    let wake_ups = context_switches(many.pid())? - before;
    report(Figure::counted("64 idle devices, 3 s: wake-ups", wake_ups as f64, "context switches", 0.0))?;
    let (ours, one) = (memory(many.pid())? as f64, memory(one.pid())? as f64);
    report(Figure::new(
        "64 idle devices: memory",
        ours,
        "KiB",
        one * DEVICES as f64,
        "64 times that of one",
        1.0,
    ))
}
