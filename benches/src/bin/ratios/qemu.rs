//! A stock QEMU that shows a given picture, without a guest.
//!
//! Its CPUs do not run: the machine obeys QEMU's test protocol (docs/devel/testing/qtest.rst), through which we are the guest:
//! we place the display's BARs, set a mode and write pixels.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vfio_gfx_tests::lab::Lab;

use crate::programs::Running;

/// How long QEMU may take to start.
const START: Duration = Duration::from_secs(60);
/// Where we put the display's BARs: video memory and registers.
const VRAM: u64 = 0xe000_0000;
const REGISTERS: u64 = 0xf000_0000;
/// Bus 0, device 2, function 0 at the configuration port (PCI Local Bus 3.0, 3.2.2.3.2).
const FUNCTION: u32 = 1 << 31 | 2 << 11;
/// Bytes in one command.
const CHUNK: usize = 64 << 10;

/// QEMU with a Bochs display.
pub(crate) struct Qemu {
    process: Running,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Qemu {
    /// Starts the lab's QEMU, its VNC server at `vnc`, with a mode of 32 bits per pixel. Only a lossy one sends JPEG to those who
    /// ask for it, and uses the gradient filter.
    pub(crate) fn start(
        lab: &Lab,
        vnc: &Path,
        (width, height): (u16, u16),
        is_lossy: bool,
    ) -> Result<Self, Box<dyn Error>> {
        let mut command = lab.qemu();
        command
            .args(["-accel", "qtest", "-qtest", "stdio", "-qtest-log", "none", "-machine", "pc", "-m", "64"])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-device", "bochs-display,vgamem=16M,addr=02.0"])
            .arg("-vnc")
            .arg(format!("unix:{}{}", vnc.display(), if is_lossy { ",lossy=on,non-adaptive=on" } else { "" }))
            // The test protocol is a module.
            .env("QEMU_MODULE_DIR", lab.root().join("usr/lib/x86_64-linux-gnu/qemu"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (commands, answers) = (child.stdin.take(), child.stdout.take());
        let process = Running(child);
        let (commands, answers) = (commands.ok_or("stdin was piped")?, answers.ok_or("stdout was piped")?);
        let mut qemu = Self { process, commands, answers: BufReader::new(answers) };
        for (register, value) in [(0x10, VRAM), (0x18, REGISTERS), (0x04, 2)] {
            qemu.obey(&format!("outl 0xcf8 {:#x}", FUNCTION | register))?;
            qemu.obey(&format!("outl 0xcfc {value:#x}"))?;
        }
        // The DISPI registers, as in `vfio_gfx_benches::device`.
        for (number, value) in [(4, 0), (3, 32), (1, width), (2, height), (4, 0x41)] {
            qemu.obey(&format!("writew {:#x} {value:#x}", REGISTERS + 0x500 + 2 * number))?;
        }
        let deadline = Instant::now() + START;
        while !vnc.exists() {
            if Instant::now() > deadline {
                return Err(format!("{}: QEMU has made no VNC socket", vnc.display()).into());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(qemu)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Writes video memory from its start.
    pub(crate) fn draw(&mut self, picture: &[u8]) -> Result<(), Box<dyn Error>> {
        let mut line = String::new();
        for (chunk, address) in picture.chunks(CHUNK).zip((VRAM..).step_by(CHUNK)) {
            line.clear();
            write!(line, "write {address:#x} {:#x} 0x", chunk.len())?;
            for byte in chunk {
                write!(line, "{byte:02x}")?;
            }
            self.obey(&line)?;
        }
        Ok(())
    }

    fn obey(&mut self, command: &str) -> Result<(), Box<dyn Error>> {
        self.commands.write_all(command.as_bytes())?;
        self.commands.write_all(b"\n")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        if answer.trim_end() == "OK" {
            return Ok(());
        }
        let command: String = command.chars().take(40).collect();
        Err(format!("QEMU answered {answer:?} to {command:?}, not OK").into())
    }
}
