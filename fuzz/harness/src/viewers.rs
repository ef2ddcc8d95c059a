//! The VNC server's two sides of a connection: one viewer that sends anything, one that behaves.

use std::time::{Duration, Instant};

use mdev_sample::DeviceType;
use qemu_shim::rfb::handshake::{Policy, Tls};
use qemu_shim::rfb::security::Password;
use qemu_shim::rfb::throttle::{Peer, Throttle};
use qemu_shim::vnc::{Pictures, Room, Rows, Viewer, wire_size};
use qemu_shim::{Console, Refresh};
use vfio_gfx::device::SharedDevice;
use vfio_gfx::display::{Display, Local};

use crate::input::Input;

const OPERATIONS: usize = 80;
/// More answers than this are never kept for a viewer that does not take them: the limit, and one piece of input's worth.
const MOST_ANSWERS: usize = 256 << 10;

/// A viewer that keeps what it is sent, in the server's own pixel format: Raw and CopyRect, and new sizes.
struct Honest {
    viewer: Viewer,
    width: usize,
    pixels: Vec<u32>,
}

struct World {
    device: SharedDevice,
    console: Console,
    pictures: Pictures,
    rows: Rows,
    throttle: Throttle,
    now: Instant,
}

/// Two viewers of one screen that is drawn on, scrolled, resized and blanked. One is fed the fuzzer's bytes behind any
/// part of a handshake, and takes what it is sent or not; the other asks and decodes. What is promised:
///
/// - nothing that the first sends panics, makes answers pile up beyond a limit, or keeps the other from its picture;
/// - a connection that ended stays ended;
/// - every update is well-formed, and once the other has taken all that there is it has just the picture.
pub fn viewers(data: &[u8]) {
    let mut input = Input::new(data);
    let device = SharedDevice::new(DeviceType::find("mbochs-small").unwrap().create(None).unwrap());
    let console = Console::new(Display::open(Box::new(Local::new(device.clone()))).unwrap());
    let mut world = World {
        device,
        console,
        pictures: Pictures::default(),
        rows: Rows::default(),
        throttle: Throttle::new(),
        now: Instant::now(),
    };
    mode(&world, 96, 64);
    world.look(&mut []);
    let password = input.flag().then(|| Password::new(b"secret").unwrap());
    let tls = input.pick(&[Tls::Off, Tls::Offered, Tls::Required]);
    let mut hostile = Viewer::new(Peer::Local, Policy { password, tls }, [7; 16], world.now);
    let mut ended = false;
    let mut honest = Honest::connect(&mut world);
    if input.flag() {
        feed(&mut hostile, b"RFB 003.008\n\x01\x01", &mut world, &mut ended);
    }
    for _ in 0..OPERATIONS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 | 1 => {
                let bytes = input.some_bytes(200);
                feed(&mut hostile, bytes, &mut world, &mut ended);
            }
            2 => {
                let mut left = input.number() as usize;
                while left > 0 && !hostile.output().is_empty() {
                    let count = hostile.output().front().len().min(left);
                    hostile.output_mut().consume(count);
                    left -= count;
                }
            }
            3 => {
                let (at, bytes) = (u64::from(input.any::<u16>()), input.some_bytes(64));
                world.device.lock().vram().write(at, bytes).unwrap();
            }
            4 => mode(&world, 32 + u16::from(input.byte() % 100), 32 + u16::from(input.byte() % 100)),
            5 => {
                let y = u16::from(input.byte() % 64);
                world.device.lock().guest_write(2, 0x500 + 18, &y.to_le_bytes()).unwrap();
            }
            6 => {
                let value = input.pick(&[0, 0x20]);
                world.device.lock().guest_write(2, 0x400, &[value]).unwrap();
            }
            _ => world.now += Duration::from_millis(u64::from(input.number() % 100_000)),
        }
        world.look(&mut [&mut hostile, &mut honest.viewer]);
        let update = world.console.update(hostile.draws_cursor());
        hostile.picture(&update, "a name", &mut world.pictures);
        if input.flag() {
            honest.take(&mut world);
        }
    }
    // Everything settles: two looks, since a mode set is told before its pixels are asked for.
    for _ in 0..3 {
        world.look(&mut [&mut hostile, &mut honest.viewer]);
        honest.take(&mut world);
    }
    let screen = world.console.screen();
    assert_eq!(honest.width, screen.width() as usize);
    assert!(honest.pixels == screen.pixels(), "the viewer has another picture than the console");
}

fn mode(world: &World, width: u16, height: u16) {
    let mut device = world.device.lock();
    for (register, value) in [(4, 0), (3, 32), (1, width), (2, height), (6, width), (9, 0), (4, 0xc1)] {
        device.guest_write(2, 0x500 + 2 * register, &value.to_le_bytes()).unwrap();
    }
}

impl World {
    fn look(&mut self, viewers: &mut [&mut Viewer]) {
        let mut result = self.console.refresh();
        while matches!(result, Ok(Refresh::Torn)) {
            result = self.console.refresh();
        }
        self.pictures.next();
        let update = self.console.update(false);
        let moved = self.rows.update(update.frame, update.damage, update.resized);
        for viewer in viewers {
            let draws_cursor = viewer.draws_cursor();
            viewer.damage(&self.console.update(draws_cursor), moved.filter(|_| !draws_cursor));
        }
    }

    fn receive(&mut self, viewer: &mut Viewer, bytes: &[u8]) -> bool {
        let screen = self.console.screen();
        let mut room = Room {
            now: self.now,
            throttle: &mut self.throttle,
            sink: None,
            screen: wire_size(screen.width(), screen.height()),
            name: "fuzz",
            resize: None,
            is_active: false,
        };
        let result = viewer.receive(bytes, &mut room);
        let wish = room.resize;
        if wish.is_some() {
            viewer.answer_resize(qemu_shim::rfb::encode::pseudo::Status::Forwarded);
        }
        result.is_ok()
    }
}

fn feed(viewer: &mut Viewer, bytes: &[u8], world: &mut World, ended: &mut bool) {
    // As the server does: nothing is read from a viewer that does not take its answers.
    if !viewer.wants_input() {
        return;
    }
    assert!(!*ended, "a connection that ended reads on");
    *ended = !world.receive(viewer, bytes);
    assert!(!*ended || viewer.is_leaving());
    assert!(viewer.output().answers() < MOST_ANSWERS, "{} bytes of answers", viewer.output().answers());
    if viewer.starts_tls() {
        // What comes now would come out of TLS.
        assert!(viewer.output().is_empty());
    }
}

impl Honest {
    fn connect(world: &mut World) -> Self {
        let mut viewer = Viewer::new(Peer::Local, Policy::default(), [0; 16], world.now);
        assert!(world.receive(&mut viewer, b"RFB 003.008\n\x01\x01"));
        let mut honest = Self { viewer, width: 0, pixels: Vec::new() };
        let greeting = honest.drain();
        let init = &greeting[12 + 2 + 4..];
        honest.resize(be16(init), be16(&init[2..]));
        // Raw, CopyRect, DesktopSize.
        let encodings = [2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0x21];
        assert!(world.receive(&mut honest.viewer, &encodings));
        honest
    }

    fn resize(&mut self, width: u16, height: u16) {
        self.width = width.into();
        self.pixels = vec![0; self.width * usize::from(height)];
    }

    fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !self.viewer.output().is_empty() {
            let front = self.viewer.output().front();
            bytes.extend_from_slice(front);
            let count = front.len();
            self.viewer.output_mut().consume(count);
        }
        bytes
    }

    /// Asks for all of the screen that changed, and paints it.
    fn take(&mut self, world: &mut World) {
        assert!(world.receive(&mut self.viewer, &[3, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
        let update = world.console.update(self.viewer.draws_cursor());
        self.viewer.picture(&update, "a name", &mut world.pictures);
        let bytes = self.drain();
        let mut rest = bytes.as_slice();
        while let [0, _, high, low, tail @ ..] = rest {
            rest = tail;
            for _ in 0..u16::from_be_bytes([*high, *low]) {
                rest = self.paint(rest);
            }
        }
        assert!(rest.is_empty(), "{rest:?} is no update");
    }

    fn paint<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (head, mut rest) = bytes.split_at(12);
        let [x, y, width, height] = [0, 2, 4, 6].map(|at| usize::from(be16(&head[at..])));
        match i32::from_be_bytes([head[8], head[9], head[10], head[11]]) {
            0 => {
                for line in y..y + height {
                    let (row, tail) = rest.split_at(width * 4);
                    rest = tail;
                    let to = line * self.width + x;
                    for (pixel, bytes) in self.pixels[to..to + width].iter_mut().zip(row.as_chunks::<4>().0) {
                        *pixel = u32::from_le_bytes(*bytes);
                    }
                }
            }
            1 => {
                let (from_x, from_y) = (usize::from(be16(rest)), usize::from(be16(&rest[2..])));
                rest = &rest[4..];
                let before = self.pixels.clone();
                for line in 0..height {
                    let (from, to) = ((from_y + line) * self.width + from_x, (y + line) * self.width + x);
                    self.pixels[to..to + width].copy_from_slice(&before[from..from + width]);
                }
            }
            -223 => self.resize(be16(&head[4..]), be16(&head[6..])),
            other => panic!("encoding {other} was not offered"),
        }
        rest
    }
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}
