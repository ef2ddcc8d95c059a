//! Messages of anybody's, as they like.

use vfio_gfx::vfio_user::{Command, RegionAccess};
use zerocopy::{FromBytes, IntoBytes};

use super::World;
use super::flips::Party;
use crate::input::Input;
use crate::messages::message;
use crate::peer::read_header;
use crate::state::State;

impl World {
    /// Anything well-framed, from anybody; what the models of this world do not follow is left out.
    pub(super) fn say(&mut self, input: &mut Input<'_>) {
        let who = input.byte() % 4;
        let (header, payload) = message(input);
        let fds = self.gifts.some(input.byte() % 6);
        let bytes = [header.as_bytes(), &payload].concat();
        let command = Command::from_raw(header.command);
        if command == Some(Command::PaceFlips) {
            return;
        }
        if who < 2 {
            let line = self.seats[usize::from(who)].line.clone();
            let mut wire = line.wire();
            if wire.is_told && command == Some(Command::SetIrqs) {
                // Its own business.
                return;
            }
            let Some(console) = &mut wire.peer else { return };
            let access = RegionAccess::read_from_prefix(&payload).ok().map(|(access, _)| access);
            let before = State::of(&mut self.device.lock(), access);
            let mut given = None;
            let ended = console.receive(&bytes, fds, |header, out| {
                let fetched = header.command == Command::GetGfxDmabuf.raw() && !out.fds.is_empty();
                assert!(
                    !out.fds.iter().any(|fd| self.ram.is_ours(fd)),
                    "a console has all of the guest's memory"
                );
                if fetched && read_header(out).reported_error().is_none() {
                    given = payload.first_chunk().map(|id| u32::from_ne_bytes(*id));
                }
            });
            let is_current = self.seats[usize::from(who)].is_at(self.generation);
            if ended.is_err() {
                wire.peer = None;
                if is_current {
                    self.flips.leave(Party::Seat(usize::from(who)));
                }
            }
            drop(wire);
            let done = command.filter(|_| ended.is_ok());
            State::of(&mut self.device.lock(), access).check_since(&before, done);
            if let Some(id) = given.filter(|_| is_current) {
                self.was_given(id);
            }
            return;
        }
        if who == 3 && self.talk_to_the_dead(&bytes, &header) {
            return;
        }
        let modelled =
            [Command::DmaMap, Command::DmaUnmap, Command::SetIrqs, Command::RegionWrite, Command::Reset];
        if command.is_some_and(|command| modelled.contains(&command)) {
            return;
        }
        if let Some(vmm) = &mut self.vmm
            && vmm.receive(&bytes, fds, |_, _| {}).is_err()
        {
            self.vmm_comes_or_goes();
        }
    }
}
