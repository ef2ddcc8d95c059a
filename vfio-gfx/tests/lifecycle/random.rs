//! Any order of events, against a model that knows only what must be so.
//!
//! A VMM and two consoles hold one device after the other: they attach, query, map, export and go; the device is reset, asked
//! back and unplugged, and another is plugged in at its place. The model is a few numbers. It says for each answer whether
//! there must be one, and for each descriptor that somebody still has what it must show.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use vfio_gfx::abi::Errno;
use vfio_gfx::device::{BUFFER_TABLE_SIZE, SharedDevice};
use vfio_gfx::memory::BufferKind;
use vfio_gfx::vfio_user::extension::kind_to_raw;
use vfio_gfx::vfio_user::{Role, VmmSlot};

use crate::party::Party;
use crate::subject::{CONFIG, EDID, VRAM, VRAM_SIZE, device};

/// Rows that a plane may start in; more than the device remembers buffers.
const ROWS: u32 = 80;
/// Who there is: a VMM and two consoles.
const PARTIES: usize = 3;

#[derive(Clone, Debug)]
enum Event {
    Plug,
    Unplug,
    Attach(usize),
    Leave(usize),
    SetRow(u32),
    Reset,
    Query(usize),
    Map(usize),
    /// The buffer of which row.
    Export(usize, u32),
    Read(usize, u32),
    Arm,
    AskBack,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let who = 0..PARTIES;
    let event = prop_oneof![
        2 => Just(Event::Plug),
        1 => Just(Event::Unplug),
        6 => who.clone().prop_map(Event::Attach),
        1 => who.clone().prop_map(Event::Leave),
        6 => (0..ROWS).prop_map(Event::SetRow),
        1 => Just(Event::Reset),
        8 => who.clone().prop_map(Event::Query),
        3 => who.clone().prop_map(Event::Map),
        4 => (who.clone(), 0..ROWS).prop_map(|(who, row)| Event::Export(who, row)),
        3 => (who, prop::sample::select(vec![VRAM, CONFIG, EDID])).prop_map(|(who, region)| Event::Read(who, region)),
        1 => Just(Event::Arm),
        1 => Just(Event::AskBack),
    ];
    prop::collection::vec(event, 1..150)
}

/// What must be so.
#[derive(Default)]
struct Model {
    /// Which device is the current one; also the byte that its memory is full of.
    mark: u8,
    is_plugged: bool,
    row: u32,
    /// Buffer ids by row, as they were first told.
    ids: BTreeMap<u32, u32>,
    /// Rows in the order of their last query, the last one first.
    recent: Vec<u32>,
    /// The highest id of this device.
    highest: u32,
    /// To which device each party is attached.
    attached: [Option<u8>; PARTIES],
    is_armed: bool,
}

impl Model {
    /// What a party's question is answered with.
    fn answer(&self, who: usize) -> Option<Result<(), Errno>> {
        let mark = self.attached[who]?;
        Some(if self.is_plugged && mark == self.mark { Ok(()) } else { Err(Errno::ENODEV) })
    }

    fn see_id(&mut self, id: u32) {
        let row = self.row;
        match self.ids.get(&row).filter(|_| self.recent.contains(&row)) {
            Some(known) => assert_eq!(id, *known, "the same memory"),
            None => assert!(id > self.highest, "an id came back: {id}"),
        }
        self.ids.insert(row, id);
        self.highest = self.highest.max(id);
        self.recent.retain(|other| *other != row);
        self.recent.insert(0, row);
        self.recent.truncate(BUFFER_TABLE_SIZE);
    }
}

struct World {
    device: SharedDevice,
    slot: VmmSlot,
    parties: [Option<Party>; PARTIES],
    request: OwnedFd,
    /// Every descriptor that anybody was ever given, and of which device.
    held: Vec<(u8, OwnedFd)>,
}

impl World {
    fn new() -> Self {
        let device = SharedDevice::new(device(0));
        device.lock().revoke().unwrap();
        let request = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let parties = [None, None, None];
        Self { device, slot: VmmSlot::default(), parties, request, held: Vec::new() }
    }

    fn take(&mut self, model: &mut Model, event: &Event) {
        match *event {
            Event::Plug if !model.is_plugged => {
                let attached = model.attached;
                *model = Model { mark: model.mark + 1, is_plugged: true, attached, ..Model::default() };
                // The old device's VMM keeps the place on the old device.
                (self.device, self.slot) = (SharedDevice::new(device(model.mark)), VmmSlot::default());
            }
            Event::Plug => {}
            Event::Unplug => {
                self.device.lock().revoke().unwrap();
                let vram = self.device.lock().vram().clone();
                assert_eq!(vram.allocated().unwrap(), 0, "whoever holds it");
                (model.is_plugged, model.is_armed) = (false, false);
            }
            Event::Attach(who) => {
                self.leave(model, who);
                let role = if who == 0 { Role::Vmm } else { Role::Console };
                let party = Party::attach(&self.device, &self.slot, role);
                assert_eq!(party.as_ref().err().copied(), (!model.is_plugged).then_some(Errno::ENODEV));
                self.parties[who] = party.ok();
                model.attached[who] = self.parties[who].as_ref().map(|_| model.mark);
            }
            Event::Leave(who) => self.leave(model, who),
            Event::SetRow(row) => {
                let answer = self.parties[0].as_mut().map(|vmm| vmm.set_row(row));
                assert_eq!(answer, model.answer(0));
                if answer == Some(Ok(())) {
                    model.row = row;
                }
            }
            Event::Reset => {
                let answer = self.parties[0].as_mut().map(Party::reset);
                assert_eq!(answer, model.answer(0));
                if answer == Some(Ok(())) {
                    model.row = 0;
                }
            }
            Event::Query(who) => {
                let answer = self.parties[who].as_mut().map(Party::query);
                assert_eq!(answer.map(|answer| answer.map(drop)), model.answer(who));
                if let Some(Ok(plane)) = answer {
                    assert_eq!(plane.is_some(), model.row != 0);
                    plane.into_iter().for_each(|id| model.see_id(id));
                }
            }
            Event::Map(who) => {
                let answer = self.parties[who].as_mut().map(Party::map);
                assert_eq!(
                    answer.as_ref().map(|answer| answer.as_ref().map(drop).map_err(|errno| *errno)),
                    model.answer(who)
                );
                self.held.extend(answer.into_iter().flatten().map(|fd| (model.mark, fd)));
            }
            Event::Export(who, row) => {
                let id = model.ids.get(&row).copied().unwrap_or(0);
                let expected = model.answer(who).map(|answer| {
                    answer
                        .and_then(|()| if model.recent.contains(&row) { Ok(()) } else { Err(Errno::ENOENT) })
                });
                let answer = self.parties[who].as_mut().map(|party| party.export(id));
                assert_eq!(
                    answer.as_ref().map(|answer| answer.as_ref().map(drop).map_err(|errno| *errno)),
                    expected
                );
                let memfd = kind_to_raw(BufferKind::Memfd);
                let given = answer.into_iter().flatten().filter(|(reply, _)| reply.kind == memfd);
                self.held.extend(given.map(|(_, fd)| (model.mark, fd)));
            }
            Event::Read(who, region) => {
                let answer = self.parties[who].as_mut().map(|party| party.read(region, 0));
                assert_eq!(answer.map(|answer| answer.map(drop)), model.answer(who));
                if let (VRAM, Some(Ok(byte))) = (region, answer) {
                    assert_eq!(byte, model.mark);
                }
            }
            Event::Arm => {
                let eventfd = self.request.try_clone().unwrap();
                let answer = self.parties[0].as_mut().map(|vmm| vmm.arm(eventfd));
                assert_eq!(answer, model.answer(0));
                model.is_armed |= answer == Some(Ok(()));
            }
            Event::AskBack => {
                assert_eq!(self.device.lock().request_release(), model.is_armed);
                assert_eq!(rustix::io::read(&self.request, &mut [0; 8]).is_ok(), model.is_armed);
            }
        }
    }

    fn leave(&mut self, model: &mut Model, who: usize) {
        self.parties[who] = None;
        if who == 0 && model.attached[0] == Some(model.mark) {
            model.is_armed = false;
        }
        model.attached[who] = None;
    }

    /// Every descriptor that is held shows its own device, or nothing.
    fn check(&self, model: &Model) {
        for (mark, fd) in &self.held {
            let expected = if *mark == model.mark && model.is_plugged { *mark } else { 0 };
            for at in [0, VRAM_SIZE - 1] {
                let mut byte = [1];
                assert_eq!(rustix::io::pread(fd, &mut byte, at).unwrap(), 1, "it is as long as ever");
                assert_eq!(byte, [expected], "of device {mark}, while {} is the last", model.mark);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_is_what_the_model_says(events in events()) {
        let (mut world, mut model) = (World::new(), Model::default());
        for event in &events {
            world.take(&mut model, event);
        }
        world.check(&model);
    }
}
