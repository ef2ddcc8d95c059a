//! Of `world`.

use super::{number, numbers};

/// An operation by its number, and what it reads.
fn act(operation: u8, what: &[u8]) -> Vec<u8> {
    [&[operation], what].concat()
}

fn vmm() -> Vec<u8> {
    act(19, &[])
}

/// Who sits down in which seat: told of changes, and pacing flips, or neither.
fn sit(which: u8, paces: bool) -> Vec<u8> {
    act(15, &[if paces { which | 10 } else { which }])
}

fn look() -> Vec<u8> {
    [act(16, &[0]), act(16, &[1])].concat()
}

fn mode() -> Vec<u8> {
    act(0, &[1, 64, 1, 48])
}

fn draw(place: u8, byte: u8) -> Vec<u8> {
    [act(7, &[place]), number(512), vec![16], vec![byte; 16]].concat()
}

fn wait(time: u8) -> Vec<u8> {
    act(20, &[time, 1])
}

/// 16 pages at 4 of the first memory, to read and write.
fn grant() -> Vec<u8> {
    act(8, &[4, 16, 0, 2, 0])
}

fn take_back() -> Vec<u8> {
    act(10, &[0, 16, 255])
}

/// A plane in video memory.
fn plane(which: u8, format: u8, start: u32, side: u8) -> Vec<u8> {
    [vec![2, which, format, side, side, 0], number(start), numbers(&[3, 4, 1, 1, 0, 0]), vec![1]].concat()
}

/// The primary plane, 32 by 32, in granted memory.
fn guest_plane(at: u16) -> Vec<u8> {
    let [low, high] = at.to_le_bytes();
    act(2, &[0x60, 0, 32, 32, 0, 0, low, high, 0, 0, 1])
}

fn unplug(who_is_cut_off: u8) -> Vec<u8> {
    act(27, &[0x40, who_is_cut_off])
}

fn say(who: u8, command: u8) -> Vec<u8> {
    act(22, &[who, command, 3, 60, 3, 1, 0, 1, 0, 0, 3])
}

/// A console writes the EDID region's link state.
fn plug_monitor(who: u8, state: u8) -> Vec<u8> {
    act(22, &[who, 7, 4, 20, 0, 9, 4, 4, state, 0, 0, 0, 0, 1, 0, 0, 0])
}

fn pace(who: u8, operation: u8, flip: u8) -> Vec<u8> {
    act(24, &[who, operation, flip, 0])
}

/// Four interrupts and the request; and which of those the guest wants to know of.
fn arm() -> Vec<u8> {
    [act(13, &[0, 3, 0, 64]), act(13, &[4, 0, 0, 64]), act(6, &[1, 7])].concat()
}

/// A VMM with a guest, two consoles, memory that is granted, cut short and taken back; flips that somebody waits for; a device that
/// is unplugged.
#[must_use]
pub fn world() -> Vec<Vec<u8>> {
    let start = [vmm(), sit(0, false), sit(1, true), mode()].concat();
    let commit = act(5, &[]);
    let reach =
        |what: &[u8]| [act(12, &[0, 0, 0]), what.to_vec(), act(12, &[0, 0, 0x60]), what.to_vec()].concat();
    let reaches = [reach(&[0, 16, 0]), reach(&[1, 4, 1, 2, 3, 4]), reach(&[2, 8])].concat();
    let disarm = [act(13, &[0, 3, 1, 64]), act(14, &[0])].concat();
    let flip_twice = [commit.clone(), look(), commit.clone(), look()].concat();
    let seeds: [(u8, Vec<Vec<u8>>); 10] = [
        // A mode, a cursor, pixels.
        (
            1,
            vec![
                draw(0, 1),
                look(),
                plane(2, 1, 4096, 16),
                look(),
                draw(0, 2),
                look(),
                plane(0, 0, 64, 64),
                look(),
            ],
        ),
        // The VMM goes; one console as well.
        (2, vec![draw(0, 1), look(), vmm(), look(), sit(0, false), look()]),
        // What the device does with guest memory, before and after it was cut short.
        (3, vec![grant(), reaches.clone(), act(11, &[0, 5]), reaches, take_back()]),
        // Interrupts, which end with the VMM.
        (
            3,
            vec![
                arm(),
                act(14, &[0]),
                act(14, &[3]),
                act(26, &[]),
                disarm,
                vmm(),
                act(14, &[0]),
                vmm(),
                arm(),
            ],
        ),
        // Flips that are taken, replaced, and time out; and one after that.
        (
            3,
            vec![
                arm(),
                look(),
                flip_twice.clone(),
                commit.clone(),
                commit.clone(),
                wait(60),
                wait(40),
                commit.clone(),
                look(),
                flip_twice.clone(),
                // A reset while it waits: it has no end.
                [commit.clone(), act(27, &[0]), wait(120), commit.clone()].concat(),
            ],
        ),
        // Three who pace by hand; one goes, one says it late, one says what is not so.
        (
            3,
            vec![
                arm(),
                sit(1, false),
                sit(1, false),
                [pace(0, 1, 0), pace(1, 1, 0), pace(2, 1, 0)].concat(),
                commit.clone(),
                [pace(0, 2, 0), pace(2, 2, 0x81), sit(1, false), wait(50)].concat(),
                commit.clone(),
                [wait(50), pace(2, 0, 0), wait(50), pace(2, 2, 0), pace(2, 3, 0), pace(0, 2, 0xf0)].concat(),
                // One who has caught up goes before the flip is over; the next waits for nobody.
                [pace(0, 2, 0), commit.clone(), sit(0, false), commit.clone()].concat(),
            ],
        ),
        // A plane in guest memory, drawn on between flip and look, which then changes no more; taken back.
        (
            2,
            vec![
                grant(),
                draw(0x81, 1),
                guest_plane(0),
                draw(0x81, 2),
                look(),
                draw(0x81, 3),
                look(),
                commit.clone(),
                look(),
                guest_plane(0x1010),
                look(),
                take_back(),
                look(),
                grant(),
                commit.clone(),
                look(),
                act(11, &[0, 0]),
                commit.clone(),
                look(),
            ],
        ),
        // The same where it is in no region; and the VMM goes.
        (
            3,
            vec![
                grant(),
                guest_plane(64),
                look(),
                vmm(),
                look(),
                vmm(),
                grant(),
                commit.clone(),
                look(),
                act(27, &[0]),
            ],
        ),
        // The monitor goes and comes; messages of anybody.
        (
            3,
            vec![
                arm(),
                plug_monitor(0, 2),
                commit.clone(),
                plug_monitor(1, 1),
                [say(0, 0), say(1, 14), say(2, 5), say(2, 19)].concat(),
                look(),
            ],
        ),
        // Unplugged, with a picture in each memory; the next device.
        (
            3,
            vec![
                arm(),
                grant(),
                guest_plane(0),
                look(),
                [commit, look(), draw(0, 1)].concat(),
                act(26, &[]),
                unplug(1),
                act(0, &[0]),
                act(0, &[1]),
                act(2, &[2, 0, 3, 60, 3, 1, 0, 1, 0, 0, 3]),
                act(3, &[]),
                act(5, &[]),
                look(),
                [vmm(), act(15, &[6]), act(15, &[15]), mode(), look(), say(3, 0), flip_twice].concat(),
                unplug(0),
                act(5, &[]),
            ],
        ),
    ];
    seeds
        .into_iter()
        .map(|(interfaces, acts)| [vec![interfaces], start.clone(), acts.concat()].concat())
        .collect()
}
