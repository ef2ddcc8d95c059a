//! `qemu-shim watch`

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, IsTerminal};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustix::termios::Winsize;
use tracing::subscriber::{NoSubscriber, set_default};
use vfio_gfx::plane::Plane;

use super::looking::{Look, Looking};
use crate::target::Target;
use crate::terminal::{Abilities, Event, Layout, Mode, Terminal, Viewer, cleanup};

/// How long a terminal has to say what it can.
const ANSWER: Duration = Duration::from_millis(200);
/// No terminal shows more than 60 pictures a second.
const SHORTEST_FRAME: Duration = Duration::from_millis(16);
/// What the status line tells is of so long.
const LATELY: Duration = Duration::from_secs(1);
/// Draws everything again.
const CTRL_L: u8 = 0x0c;

#[derive(Debug, Args)]
pub(super) struct Watch {
    /// The device.
    pub(super) device: Target,
    /// kitty: the kitty graphics protocol, exact pixels. sixel: 256 colours. blocks: two pixels for each character, with
    /// 24-bit colour. auto: the first of them that the terminal says it can.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    mode: Choice,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Choice {
    Auto,
    Kitty,
    Sixel,
    Blocks,
}

impl Choice {
    fn mode(self) -> Option<Mode> {
        match self {
            Self::Auto => None,
            Self::Kitty => Some(Mode::Kitty),
            Self::Sixel => Some(Mode::Sixel),
            Self::Blocks => Some(Mode::Blocks),
        }
    }
}

impl Watch {
    /// Quits on `q`, Ctrl-C, SIGINT, SIGTERM and SIGHUP.
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let mode = self.mode.mode();
        let mut looking = Looking::waiting(self.device.console()?);
        let mut terminal = Terminal::open(cleanup(mode))?;
        // Log lines would be in the middle of the picture; what is worth knowing is in the status line.
        let _quiet = io::stderr().is_terminal().then(|| set_default(NoSubscriber::default()));
        let mut abilities = ask(&mut terminal, mode)?;
        let mut size = terminal.size()?;
        let choice = |abilities: &Abilities| mode.unwrap_or_else(|| abilities.best());
        let mut viewer = Viewer::new(choice(&abilities), layout(size, &abilities));
        let mut status = Status::new(&self.device);
        let mut out = Vec::new();
        while !terminal.is_over() {
            let mut redraw = terminal.was_away()?;
            while let Some(event) = terminal.event(Duration::ZERO)? {
                abilities.learn(event);
                redraw |= event == Event::Key(CTRL_L);
            }
            let now_size = terminal.size()?;
            if now_size != size {
                size = now_size;
                terminal.send(Abilities::questions_of_size())?;
            }
            let now = (choice(&abilities), layout(size, &abilities));
            if redraw || now != (viewer.mode(), viewer.layout()) {
                viewer = Viewer::new(now.0, now.1);
            }
            let start = Instant::now();
            let look = looking.look()?;
            out.clear();
            let update = looking.console.update(false);
            if look != Look::Same || viewer.is_unknown() {
                viewer.show(update.frame, update.damage, &mut out)?;
            }
            let tiles = update.damage.columns() * update.damage.rows();
            let damage = (update.damage.count() * 100).div_ceil(tiles.max(1));
            status.saw(look, damage, start);
            viewer.status(&status.text(&mut looking, viewer.mode()), &mut out);
            terminal.send(&out)?;
            looking.rest()?;
            if look == Look::Changed {
                sleep(SHORTEST_FRAME.saturating_sub(start.elapsed()));
            }
        }
        Ok(())
    }
}

/// Asks the terminal what it can, and waits a little for the answers; those that come later still count.
fn ask(terminal: &mut Terminal, mode: Option<Mode>) -> Result<Abilities, Box<dyn Error>> {
    let mut abilities = Abilities::default();
    terminal.send(&Abilities::questions(mode))?;
    let start = Instant::now();
    while !abilities.is_complete() && !terminal.is_over() {
        let left = ANSWER.saturating_sub(start.elapsed());
        match terminal.event(left)? {
            Some(event) => abilities.learn(event),
            None if left.is_zero() => break,
            None => {}
        }
    }
    Ok(abilities)
}

fn layout(size: Winsize, abilities: &Abilities) -> Layout {
    let (columns, rows) = (size.ws_col, size.ws_row);
    Layout::new(columns, rows, abilities.cell(columns, rows, (size.ws_xpixel, size.ws_ypixel)))
}

/// What the last row says.
#[derive(Debug)]
struct Status {
    device: String,
    /// When pictures were shown lately.
    shown: VecDeque<Instant>,
    /// Per cent of the last one.
    damage: u32,
}

impl Status {
    fn new(device: &Target) -> Self {
        let device = device.to_string();
        Self { device, shown: VecDeque::new(), damage: 0 }
    }

    fn saw(&mut self, look: Look, damage: u32, now: Instant) {
        if look == Look::Changed {
            self.shown.push_back(now);
            self.damage = damage;
        }
        while self.shown.front().is_some_and(|shown| now.saturating_duration_since(*shown) >= LATELY) {
            self.shown.pop_front();
        }
    }

    fn text(&self, looking: &mut Looking, mode: Mode) -> String {
        let interface = looking.console.display().interface().name();
        let shown = match (looking.console.plane(), looking.complaint()) {
            (_, Some(complaint)) => complaint.to_owned(),
            (None, None) => "off".to_owned(),
            (Some(Plane { geometry, format, .. }), None) => {
                let fps = self.shown.len();
                let damage = if fps == 0 { 0 } else { self.damage };
                let (width, height) = (geometry.width(), geometry.height());
                format!("{width}x{height} {format} | {fps} fps | damage {damage} %")
            }
        };
        format!(" q quits | {shown} | {interface} | {mode} | {} ", self.device)
    }
}
