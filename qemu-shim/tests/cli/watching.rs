//! `qemu-shim watch`, in a terminal of ours.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{ControlModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::fixture::{Guest, Picture, complaint, program};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal, what is on it, and the program in it.
struct Terminal {
    master: File,
    screen: vt100::Parser,
    /// Everything that it was sent.
    sent: Vec<u8>,
    before: Termios,
    child: Child,
}

impl Terminal {
    fn run(columns: u16, rows: u16, args: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let child = {
            tcsetwinsize(&slave, winsize(columns, rows)).unwrap();
            let stderr = slave.try_clone().unwrap();
            program().args(args).stdout(Stdio::from(slave)).stderr(Stdio::from(stderr)).spawn().unwrap()
        };
        let screen = vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 0);
        Self { master: master.into(), screen, sent: Vec::new(), before, child }
    }

    /// Reads what there is, answers nothing; false once nothing comes any more.
    fn read(&mut self) -> bool {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut ready, Some(&timeout)).unwrap() == 0 {
            return true;
        }
        let mut bytes = [0; 65536];
        // EIO: nobody has the other side any more.
        let Ok(length) = self.master.read(&mut bytes) else { return false };
        self.screen.process(&bytes[..length]);
        self.sent.extend_from_slice(&bytes[..length]);
        true
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut is_it: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !is_it(self) {
            assert!(start.elapsed() < PATIENCE, "{what}: {}", self.screen.screen().contents());
            assert!(self.read() || is_it(self), "{what}: ended: {}", self.screen.screen().contents());
        }
    }

    fn status(&self) -> String {
        let (rows, columns) = self.screen.screen().size();
        self.screen.screen().rows(0, columns.get()).nth(usize::from(rows.get()) - 1).unwrap()
    }

    fn has_sent(&self, bytes: &[u8]) -> bool {
        self.sent.windows(bytes.len()).any(|sent| sent == bytes)
    }

    /// Whether the cells are these pixels, two for each.
    fn shows(&self, picture: &Picture) -> bool {
        let rgb = |colour| match colour {
            vt100::Color::Rgb(r, g, b) => Some([r, g, b]),
            _ => None,
        };
        (0..picture.pixels.len()).all(|n| {
            let (x, y) = (n % picture.width, n / picture.width);
            let place = [y / 2, x].map(|place| u16::try_from(place).unwrap());
            let Some(cell) = self.screen.screen().cell(place[0], place[1]) else { return false };
            let colour = if y % 2 == 0 { cell.fgcolor() } else { cell.bgcolor() };
            cell.contents() == "\u{2580}" && rgb(colour) == Some(picture.pixels[n])
        })
    }

    /// How the program ended, and that the terminal is what it was.
    #[track_caller]
    fn ended(mut self) -> i32 {
        let start = Instant::now();
        while self.read() {
            assert!(start.elapsed() < PATIENCE, "still running: {}", self.screen.screen().contents());
        }
        let status = self.child.wait().unwrap();
        let screen = self.screen.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "the terminal's own screen is back");
        let after = tcgetattr(&self.master).unwrap();
        let modes = |termios: &Termios| {
            let Termios { input_modes, output_modes, control_modes, local_modes, .. } = termios;
            (*input_modes, *output_modes, *control_modes - INPUT_SPEED, *local_modes)
        };
        assert_eq!(modes(&after), modes(&self.before));
        status.code().unwrap()
    }
}

/// `CIBAUD` (`include/uapi/asm-generic/termbits-common.h`). Zero is the output's speed, for which the C library, if it is that which sets the
/// modes, writes that speed.
const INPUT_SPEED: ControlModes = ControlModes::from_bits_retain(0x100f_0000);

fn winsize(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// A terminal that answers no question: half blocks, each pixel where it belongs, and only what changes is sent.
#[test]
fn half_blocks_are_the_picture() {
    let mut guest = Guest::new("mbochs-small");
    guest.mode(80, 64, 80);
    let picture = Picture::known(80, 64);
    guest.draw(&picture, 80, 0);
    let mut terminal = Terminal::run(100, 40, &["watch", &guest.device()]);
    terminal.until("the picture", |terminal| terminal.shows(&picture));
    assert!(terminal.screen.screen().alternate_screen() && terminal.screen.screen().hide_cursor());
    terminal.until("the status", |terminal| {
        let status = terminal.status();
        let words = ["q quits", "80x64 XR24", " fps", "damage ", "dmabuf", "blocks"];
        words.iter().all(|word| status.contains(word))
    });
    let sent = terminal.sent.len();
    let mut other = picture.clone();
    other.pixels[20 * 80 + 70] = [1, 2, 3];
    guest.draw(&other, 80, 0);
    terminal.until("the change", |terminal| terminal.shows(&other));
    // One cell, and a status line or two.
    assert!(terminal.sent.len() - sent < 2000, "{} bytes for a pixel", terminal.sent.len() - sent);

    // Too large for 39 rows: of more than one pixel the mean is shown.
    guest.mode(96, 96, 96);
    guest.draw(&Picture::solid(96, 96, [7, 8, 9]), 96, 0);
    terminal.until("the mode", |terminal| terminal.shows(&Picture::solid(78, 78, [7, 8, 9])));
    assert!(terminal.status().contains("96x96"), "{}", terminal.status());
    let larger = Picture::known(96, 96);
    guest.draw(&larger, 96, 0);
    tcsetwinsize(&terminal.master, winsize(110, 60)).unwrap();
    terminal.screen.screen_mut().set_size(60.try_into().unwrap(), 110.try_into().unwrap());
    terminal.until("the new size", |terminal| terminal.shows(&larger));

    guest.register(4, 0);
    terminal.until("off", |terminal| terminal.status().contains("off"));
    terminal.master.write_all(b"q").unwrap();
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn everything_that_ends_it_leaves_the_terminal_as_it_was() {
    let guest = Guest::new("mdpy-vga");
    let begun = || {
        let mut terminal = Terminal::run(80, 24, &["watch", &guest.device(), "--mode", "blocks"]);
        terminal.until("a picture", |terminal| terminal.status().contains("640x480"));
        terminal
    };
    for key in [b"q", b"Q", b"\x03"] {
        let mut terminal = begun();
        terminal.master.write_all(key).unwrap();
        assert_eq!(terminal.ended(), 0, "{key:?}");
    }
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let terminal = begun();
        kill_process(Pid::from_child(&terminal.child), signal).unwrap();
        assert_eq!(terminal.ended(), 0, "{signal:?}");
    }
    // A device that goes does not end it: another may come.
    let mut terminal = begun();
    drop(guest);
    terminal.until("that it is gone", |terminal| terminal.status().contains("the device is gone"));
    terminal.master.write_all(b"q").unwrap();
    assert_eq!(terminal.ended(), 0);
}

/// The terminal says what it can, and is believed.
#[test]
fn answers_decide_the_mode() {
    let guest = Guest::new("mdpy-vga");
    guest.draw(&Picture::known(640, 480), 640, 0);
    let cell = b"\x1b[6;20;10t";
    let kitty = b"\x1b_Gi=31;OK\x1b\\";
    for (answer, mode, sign) in [
        ([&kitty[..], cell, b"\x1b[?62c"].concat(), "kitty", &b"\x1b_Ga=T,f=24,s=640,v=40,c=64,r=2,i=1,"[..]),
        ([&cell[..], b"\x1b[?62;4c"].concat(), "sixel", b"\x1bP0;1;0q\"1;1;640;480"),
        (b"\x1b[?62c".to_vec(), "blocks", "\u{2580}".as_bytes()),
    ] {
        let mut terminal = Terminal::run(100, 30, &["watch", &guest.device()]);
        terminal.until("the question", |terminal| terminal.has_sent(b"\x1b[c"));
        assert!(terminal.has_sent(b"\x1b_Gi=31,s=1,v=1,a=q,"));
        terminal.master.write_all(&answer).unwrap();
        terminal.until(mode, |terminal| terminal.has_sent(sign) && terminal.status().contains(mode));
        terminal.master.write_all(b"q").unwrap();
        assert_eq!(terminal.ended(), 0);
    }
    let mut terminal = Terminal::run(100, 30, &["watch", &guest.device(), "--mode", "sixel"]);
    terminal.until("sixels", |terminal| terminal.has_sent(b"\x1bP0;1;0q"));
    assert!(!terminal.has_sent(b"\x1b_G"), "not asked what is not wanted");
    terminal.master.write_all(b"q").unwrap();
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn without_a_terminal_it_says_so() {
    let line = complaint(&["watch", "sample:mdpy-vga"], 1);
    assert!(line.contains("stdout is no terminal"), "{line}");
    assert!(complaint(&["watch", "sample:mdpy-vga", "--mode", "ascii"], 2).contains("ascii"));
}
