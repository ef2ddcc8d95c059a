//! Somebody who looks.

use qemu_shim::{Console, ConsoleError, Frame, Refresh, State};
use vfio_gfx::abi::{Errno, Interface, PlaneKind};
use vfio_gfx::display::{Display, DisplayError};
use vfio_gfx::memory::BufferKind;
use vfio_gfx::vfio_user::extension::{PACE_TAKEN, PaceReply, PaceRequest};
use vfio_gfx::vfio_user::{ClientError, Command, HEADER_SIZE, Role};
use zerocopy::{FromBytes, IntoBytes};

use super::World;
use super::flips::Party;
use super::line::Line;
use crate::input::Input;
use crate::peer::{Peer, read_header};
use crate::refresh::check_viewer;

#[derive(Default)]
pub(super) struct Seat {
    pub(super) line: Line,
    pub(super) console: Option<Console>,
    /// Whether the console paces flips itself.
    pub(super) paces: bool,
    /// Which device it looks at.
    generation: u32,
    /// What a viewer has that repaints what it is told of.
    viewed: Frame,
}

impl Seat {
    /// Whether it looks at this device.
    pub(super) fn is_at(&self, generation: u32) -> bool {
        self.generation == generation
    }
}

impl World {
    /// Whoever sits there gets up; else somebody sits down, before the picture that was there if it is of a device that has gone.
    pub(super) fn sit_or_stand(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let which = usize::from(choice & 1);
        let is_on_this = self.seats[which].generation == self.generation;
        if self.seats[which].line.wire().peer.take().is_some() && is_on_this {
            self.flips.leave(Party::Seat(which));
            return;
        }
        let mut peer = Peer::new(&self.device, &self.slot);
        assert!(peer.negotiate(Role::Console));
        let line = Line::default();
        (line.wire().peer, line.wire().is_told) = (Some(peer), choice & 2 != 0);
        let offers =
            [Interface::Region, Interface::Dmabuf].map(|interface| self.device.lock().probe(interface));
        let seat = &mut self.seats[which];
        match Display::open(Box::new(line.clone())) {
            Ok(display) => match &mut seat.console {
                // The console stays, and the wish to pace with it.
                Some(console) if choice & 4 != 0 => console.replug(display),
                console => {
                    let console = console.insert(Console::new(display));
                    seat.paces = choice & 8 != 0;
                    seat.viewed = Frame::default();
                    if seat.paces {
                        console.pace_flips();
                    }
                }
            },
            Err(error) => {
                assert!(
                    matches!(error, DisplayError::NoInterface) && offers == [false; 2],
                    "cannot open: {error}"
                );
                seat.console = None;
            }
        }
        (seat.line, seat.generation) = (line, self.generation);
    }

    /// A look, after which the picture is what it must be.
    pub(super) fn look(&mut self, which: usize) {
        let expected = self.expected_look();
        let seat = &mut self.seats[which];
        let Some(console) = &mut seat.console else { return };
        let result = console.refresh();
        assert!(!matches!(result, Ok(Refresh::Torn)), "nobody flipped");
        let is_live = result.as_ref().is_ok_and(|refresh| *refresh != Refresh::Off);
        check_viewer(console, &mut seat.viewed, is_live);
        let is_there =
            seat.line.wire().peer.is_some() && seat.generation == self.generation && !self.is_unplugged;
        if !is_there {
            assert!(console.frame().is_empty(), "a picture without a device");
            assert_eq!(console.state(), State::Unplugged, "{result:?}");
            return;
        }
        if let Some(possible) = expected {
            assert_eq!(result.as_ref().err().map(errno), possible, "{result:?}");
        }
        let (keeps_up, told) = (seat.paces && result.is_ok(), seat.line.wire().is_told);
        self.hear(which);
        if keeps_up && told {
            self.flips.check_keeps_up(Party::Seat(which));
        }
        if result.is_ok() {
            self.check_picture(which);
        }
    }

    /// What a look fails with, if it is known: guest memory cannot always be shown.
    fn expected_look(&mut self) -> Option<Option<Errno>> {
        let mut device = self.device.lock();
        if self.is_unplugged || !self.ram.is_shown(0) || self.guest.primary().is_none() {
            return Some(None);
        }
        if !device.probe(Interface::Dmabuf) {
            // It is in no region. A screen that is off is in none either.
            let is_on = device.query(Interface::Region, PlaneKind::Primary).is_err();
            return Some(is_on.then_some(Errno::EOPNOTSUPP));
        }
        // Memory without the seals that udmabuf wants is refused by each kernel in its own way.
        (device.buffer_kind() == BufferKind::Memfd).then(|| {
            let id = device.query(Interface::Dmabuf, PlaneKind::Primary).unwrap().map(super::picture::id_of);
            id.and_then(|id| self.copies.would_fail(id, &self.guest, &self.ram).then_some(Errno::EIO))
        })
    }

    /// What the console has said of flips, in its order.
    pub(super) fn hear(&mut self, which: usize) {
        let said = std::mem::take(&mut self.seats[which].line.wire().said);
        for (request, reply) in said {
            self.flips.paced(Party::Seat(which), request, reply);
        }
        let wire = self.seats[which].line.wire();
        assert!(
            !wire.given.iter().any(|(_, fd)| self.ram.is_ours(fd)),
            "a console has all of the guest's memory"
        );
    }

    /// Anybody says anything of flips; what a console says that paces itself is its own affair.
    pub(super) fn pace(&mut self, input: &mut Input<'_>) {
        let who = usize::from(input.byte() % 4);
        let operation = match input.byte() {
            known @ 0..0xf0 => u32::from(known % 4),
            _ => input.number(),
        };
        let newest = self.flips.newest();
        let flip = match input.byte() {
            choice if operation != PACE_TAKEN && choice < 0xc0 => 0,
            0..0x80 => newest,
            choice @ 0x80..0xf0 => (newest + 2).saturating_sub(u64::from(choice % 8)),
            _ => input.number64(),
        };
        let reserved = u32::from(input.byte() > 0xf8);
        let request = PaceRequest { operation, reserved, flip };
        if who < 2 {
            let seat = &mut self.seats[who];
            if seat.generation != self.generation {
                return;
            }
            match &mut seat.console {
                Some(console) if seat.paces => {
                    let _ = console.stop_pacing();
                }
                _ => drop(seat.line.say(request)),
            }
            return self.hear(who);
        }
        let Some(vmm) = &mut self.vmm else { return };
        let mut reply = Err(Errno::EIO);
        vmm.send(Command::PaceFlips, request.as_bytes(), Vec::new(), |out| {
            reply = match read_header(out).reported_error() {
                Some(errno) => Err(errno),
                None => Ok(PaceReply::read_from_bytes(&out.bytes[HEADER_SIZE..]).unwrap()),
            };
        })
        .unwrap();
        self.flips.paced(Party::Vmm, request, reply);
    }
}

fn errno(error: &ConsoleError) -> Errno {
    match error {
        ConsoleError::Display(DisplayError::Client(ClientError::Refused { errno, .. })) => *errno,
        other => panic!("a look ended with {other}"),
    }
}
