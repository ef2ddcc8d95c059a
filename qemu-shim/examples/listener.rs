//! A console embedded in a program: what changed, as it changes. `cargo run -p qemu-shim --example listener -- DEVICE`

use std::error::Error;
use std::sync::atomic::AtomicBool;

use qemu_shim::{Console, Listener, Target, Update};

struct Printer;

impl Listener for Printer {
    fn update(&mut self, update: &Update<'_>) {
        let frame = update.frame;
        let what = if update.live { "guest" } else { "nothing to see" };
        println!("{}x{} ({what})", frame.width(), frame.height());
        for rect in update.damage.rects() {
            println!("  {}x{} pixels at {}, {} changed", rect.width, rect.height, rect.x, rect.y);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device: Target =
        std::env::args().nth(1).ok_or("expected DEVICE, as in vfio-user:/tmp/gpu.sock")?.parse()?;
    let mut console = Console::new(device.open()?);
    console.add_listener(Box::new(Printer));
    Ok(console.run(&AtomicBool::new(false))?)
}
