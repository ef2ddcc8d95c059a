//! Of `ioctl` and `registers`.

use vfio_gfx::edid::{Config, Mode, generate};

use super::{CURSOR, SCREEN, count, mode, number, numbers, plane};

/// Operation 0 of the `ioctl` target: which request, how much memory, the fields in it.
fn call(request: u8, len: u8, fields: &[u32]) -> Vec<u8> {
    [&[0, request, len, count(fields)], numbers(fields).as_slice()].concat()
}

/// Every device of the menu through each set of interfaces, asked everything.
#[must_use]
pub fn ioctl() -> Vec<Vec<u8>> {
    let mut session = call(0, 24, &[24]);
    for index in [0, 2, 7, 8, 9, 16] {
        session.extend(call(1, 32, &[32, 0, index]));
        session.extend(call(1, 80, &[80, 0, index]));
    }
    session.extend(call(3, 16, &[16, 0, 1]));
    session.extend(mode(640, 480));
    for flags in [3, 5, 2, 4] {
        session.extend(call(7, 64, &[64, flags, 1]));
    }
    session.extend([call(10, 4, &[1]), call(10, 4, &[2]), call(6, 0, &[])].concat());
    let mut seeds: Vec<Vec<u8>> = [0, 6, 9, 10, 11, 14, 15]
        .into_iter()
        .flat_map(|device| [1, 2, 3].map(|interfaces| [&[device, interfaces], session.as_slice()].concat()))
        .collect();
    // Arm two interrupts, fire, mask, fire, unmask, disarm.
    let irqs: Vec<u8> = [(4, 32, 2), (1, 32, 0), (1, 8, 0), (2, 32, 0), (1, 16, 0), (1, 32, 0)]
        .into_iter()
        .flat_map(|(data, action, fds)| {
            let arg = call(4, 24, &[24, data + action, 1, 0, 2, 0x0101]);
            [arg, vec![fds]].concat()
        })
        .collect();
    seeds.push([&[0, 2], irqs.as_slice()].concat());
    // Wait for display changes, cause some, look.
    let watch = [call(3, 40, &[40, 0, 5]), call(4, 20, &[20, 36, 5, 0, 5]), vec![5]].concat();
    let planes = [plane(7, 0, 0, SCREEN), plane(7, 2, 1, CURSOR)].concat();
    let queries = [0, 1, 2].map(|kind| call(7, 64, &[64, 2, kind])).concat();
    seeds.push([&[8, 3], watch.as_slice(), &planes, &queries, &call(10, 4, &[1])].concat());
    // Reads of each place, and a base that leaves its page.
    let reads: Vec<u8> = (0..12).flat_map(|place| [4, place, 0, 4]).collect();
    let pan = [&[5, 4, 8, 2], 1u16.to_le_bytes().as_slice(), &[8, 200]].concat();
    seeds.push([&[0, 3], reads.as_slice(), &mode(800, 600), &pan, &call(7, 64, &[64, 2, 1])].concat());
    seeds
}

/// Operation 0 of the `registers` target.
fn dispi(register: u8, value: u32) -> Vec<u8> {
    [&[0, register], number(value).as_slice()].concat()
}

/// Operation 2 of the `registers` target: data, then place and offset.
fn poke(place: u8, offset: u8, data: &[u8]) -> Vec<u8> {
    [&[2, u8::try_from(data.len()).unwrap_or(0)], data, &[place, offset]].concat()
}

/// What drivers do to a Bochs display, and what a host does to its EDID.
#[must_use]
pub fn registers() -> Vec<Vec<u8>> {
    let bochs_drm =
        [(4, 0), (3, 32), (1, 1024), (2, 768), (5, 0), (6, 1024), (7, 768), (8, 0), (9, 0), (4, 0x41)];
    let set_mode: Vec<u8> =
        bochs_drm.into_iter().flat_map(|(register, value)| dispi(register, value)).collect();
    let flip =
        [dispi(6, 1100), dispi(8, 100), vec![9, 60], dispi(9, 200), dispi(6, 1024), vec![9, 200]].concat();
    let blank = [poke(2, 0, &[0]), poke(2, 0, &[0x20])].concat();
    let big_endian = poke(6, 4, &[0xbe; 4]);
    // A write while decoding is off, which must do nothing.
    let sizing =
        [poke(9, 0, &[0xff; 24]), poke(8, 4, &[0]), poke(4, 2, &[0x80, 2]), poke(8, 4, &[7])].concat();
    let edid = generate(&Config::new(Mode::new(640, 480))).map(|edid| edid.as_bytes()[..64].to_vec());
    let update =
        [poke(12, 20, &[2, 0, 0, 0]), poke(14, 0, &edid.unwrap_or_default()), poke(12, 8, &[64, 0, 0, 0])]
            .concat();
    let up = poke(12, 20, &[1, 0, 0, 0]);
    let caps = [dispi(4, 3), vec![4, 8, 4, 2], dispi(0, 0xb0c0), dispi(0, 7)].concat();
    let planes =
        [plane(7, 0, 0, SCREEN), plane(7, 2, 1, CURSOR), poke(17, 8, &[0, 16, 0, 0]), vec![8, 5]].concat();
    vec![
        planes,
        [set_mode.clone(), flip].concat(),
        [set_mode.clone(), blank, big_endian, vec![5]].concat(),
        [sizing, set_mode.clone()].concat(),
        [update, up, vec![4, 255, 0, 0]].concat(),
        [caps, set_mode].concat(),
    ]
}
