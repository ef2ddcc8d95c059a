//! A guest that waits for its flips, and a console in another process that takes them, hangs, and comes back.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use vfio_gfx::memory::Vram;

use crate::fixture::{Guest, complaint, program, vkms_crc};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const COMMIT: u64 = 0x808;
const COMPLETED: u64 = 0x80c;
const STATUS: u64 = 0x810;
const LINK: u64 = 0x814;
const TIMED_OUT: u64 = 0x824;
const PRIMARY: u64 = 0x840;

const SIDE: u32 = 64;
const FRAME_BYTES: usize = (SIDE * SIDE * 4) as usize;
const FRAME: u64 = FRAME_BYTES as u64;
/// Where the guest's memory is for the guest.
const RAM_AT: u64 = 1 << 32;

/// `qemu-shim crc`, which prints a line for each frame.
struct Sums {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Sums {
    fn start(guest: &Guest, frames: u32) -> Self {
        let frames = frames.to_string();
        let mut command = program();
        command.args(["crc", &guest.device(), "--json", "--frames", &frames]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        let line: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
        line["crc"].as_str().unwrap().to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, and returns when it is.
    fn stop(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.child.id());
        let start = Instant::now();
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            assert!(start.elapsed() < PATIENCE, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Sums {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A frame of one colour, and its checksum.
fn fill(memory: &Vram, number: u8) -> String {
    memory.write(u64::from(number) * FRAME, &[number; FRAME_BYTES]).unwrap();
    let pixels = vec![[number; 3]; (SIDE * SIDE) as usize];
    format!("{:08x}", vkms_crc(&pixels))
}

/// Flips to a frame in the guest's memory.
fn flip(guest: &mut Guest, number: u8) {
    let at = RAM_AT + u64::from(number) * FRAME;
    let format = u32::from_le_bytes(*b"XR24");
    let place = [(0x08, at & 0xffff_ffff), (0x0c, at >> 32), (0x34, 1)];
    let shape = [(0, 1), (0x04, format), (0x10, SIDE * 4), (0x14, SIDE), (0x18, SIDE)];
    for (register, value) in place {
        guest.write(PRIMARY + register, value.try_into().unwrap());
    }
    for (register, value) in shape {
        guest.write(PRIMARY + register, value);
    }
    guest.write(COMMIT, 1);
}

/// Waits as a driver without interrupts does.
#[track_caller]
fn await_register(guest: &mut Guest, register: u64, value: u32) {
    let start = Instant::now();
    while guest.read(register) != value {
        assert!(start.elapsed() < PATIENCE, "{register:#x} reads {}, not {value}", guest.read(register));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn every_frame_of_a_guest_that_waits_is_seen_in_its_own_memory() {
    const FRAMES: u8 = 12;
    let mut guest = Guest::new("vgfx-hd");
    let ram = Vram::new("ram", u64::from(FRAMES) * FRAME).unwrap();
    guest.share(&ram, RAM_AT);
    let drawn: Vec<String> = (0..FRAMES).map(|number| fill(&ram, number)).collect();
    flip(&mut guest, 0);
    let mut sums = Sums::start(&guest, u32::from(FRAMES));
    assert_eq!(sums.next(), drawn[0]);
    for number in 1..FRAMES {
        flip(&mut guest, number);
        await_register(&mut guest, COMPLETED, u32::from(number) + 1);
        if guest.read(STATUS) == 3 {
            // The console was not run for a tenth of a second; it shows the frame when it is.
            await_register(&mut guest, LINK, 1);
        }
        assert_eq!(sums.next(), drawn[usize::from(number)], "frame {number}");
    }
    assert!(sums.child.wait().unwrap().success());
    await_register(&mut guest, LINK, 1);
    // The owner wants its memory back.
    guest.unshare(&ram, RAM_AT);
    assert_eq!(guest.read(PRIMARY + 0x38), 3, "STATE: not there any more");
    let file = guest.file("off.png");
    let said = complaint(&["screendump", &guest.device(), "-o", file.to_str().unwrap()], 1);
    assert!(said.contains("off"), "{said}");
}

#[test]
fn a_console_that_is_stopped_costs_one_time_out_and_catches_up() {
    let mut guest = Guest::new("vgfx-hd");
    let ram = Vram::new("ram", 16 * FRAME).unwrap();
    guest.share(&ram, RAM_AT);
    let drawn: Vec<String> = (0..16).map(|number| fill(&ram, number)).collect();
    flip(&mut guest, 0);
    let mut sums = Sums::start(&guest, 1000);
    assert_eq!(sums.next(), drawn[0]);
    sums.stop();
    flip(&mut guest, 1);
    await_register(&mut guest, COMPLETED, 2);
    // Had it been slow before, it was late before, and is so no less.
    assert_eq!((guest.read(LINK), guest.read(TIMED_OUT)), (3, 1));
    for number in 2..10 {
        flip(&mut guest, number);
        assert_eq!(guest.read(COMPLETED), u32::from(number) + 1, "at once");
        assert_eq!(guest.read(STATUS), 1);
    }
    assert_eq!((guest.read(LINK), guest.read(TIMED_OUT)), (3, 1));
    sums.signal(Signal::CONT);
    await_register(&mut guest, LINK, 1);
    while sums.next() != drawn[9] {}
    // Waited for again, until it is killed.
    sums.stop();
    flip(&mut guest, 10);
    drop(sums);
    await_register(&mut guest, COMPLETED, 11);
    await_register(&mut guest, LINK, 1);
}
