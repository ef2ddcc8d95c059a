//! A VNC viewer for tests: Raw and CopyRect, sizes and fences; whatever else comes is a failure.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// A rectangle that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) x: u16,
    pub(crate) y: u16,
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) encoding: i32,
}

/// A viewer that keeps the picture.
#[derive(Debug)]
pub(crate) struct Viewer {
    pub(crate) stream: UnixStream,
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) pixels: Vec<u32>,
    /// Fences that were answered.
    pub(crate) fences: Vec<Vec<u8>>,
    pub(crate) ends_of_continuous_updates: u32,
    /// The desktop's.
    pub(crate) name: String,
}

pub(crate) const COPY_RECT: i32 = 1;
pub(crate) const DESKTOP_SIZE: i32 = -223;
pub(crate) const CURSOR: i32 = -239;
pub(crate) const EXTENDED_DESKTOP_SIZE: i32 = -308;
pub(crate) const FENCE: i32 = -312;
pub(crate) const CONTINUOUS: i32 = -313;
pub(crate) const DESKTOP_NAME: i32 = -307;

impl Viewer {
    /// Connects with RFB 3.8 and no password.
    pub(crate) fn connect(path: &Path) -> Self {
        let mut viewer = Self::raw(path);
        viewer.expect(b"RFB 003.008\n");
        viewer.send(b"RFB 003.008\n");
        viewer.expect(&[1, 1]);
        viewer.send(&[1]);
        viewer.expect(&[0, 0, 0, 0]);
        viewer.come_in();
        viewer
    }

    /// Connects, and says nothing.
    pub(crate) fn raw(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        let (width, height) = (0, 0);
        let (pixels, fences) = (Vec::new(), Vec::new());
        Self { stream, width, height, pixels, fences, ends_of_continuous_updates: 0, name: String::new() }
    }

    /// `ClientInit` and `ServerInit`.
    pub(crate) fn come_in(&mut self) {
        self.send(&[1]);
        (self.width, self.height) = (self.read16(), self.read16());
        assert_eq!(self.read::<16>()[..4], [32, 24, 0, 1]);
        self.name = self.text();
        self.pixels = vec![0; usize::from(self.width) * usize::from(self.height)];
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn read<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn read16(&mut self) -> u16 {
        u16::from_be_bytes(self.read())
    }

    pub(crate) fn read32(&mut self) -> u32 {
        u32::from_be_bytes(self.read())
    }

    pub(crate) fn skip(&mut self, count: usize) {
        self.stream.read_exact(&mut vec![0; count]).unwrap();
    }

    fn text(&mut self) -> String {
        let mut bytes = vec![0; self.read32() as usize];
        self.stream.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) fn expect(&mut self, expected: &[u8]) {
        let mut found = vec![0; expected.len()];
        self.stream.read_exact(&mut found).unwrap();
        assert_eq!(found, expected);
    }

    pub(crate) fn set_encodings(&mut self, list: &[i32]) {
        let mut message = vec![2, 0];
        message.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
        message.extend(list.iter().flat_map(|encoding| encoding.to_be_bytes()));
        self.send(&message);
    }

    pub(crate) fn request(&mut self, incremental: bool) {
        let mut message = vec![3, incremental.into(), 0, 0, 0, 0];
        message.extend(self.width.to_be_bytes());
        message.extend(self.height.to_be_bytes());
        self.send(&message);
    }

    /// Asks, and waits for the answer.
    pub(crate) fn update(&mut self, incremental: bool) -> Vec<Got> {
        self.request(incremental);
        self.receive()
    }

    /// Waits for the next update; other messages are noted.
    pub(crate) fn receive(&mut self) -> Vec<Got> {
        loop {
            match self.read::<1>()[0] {
                0 => break,
                150 => self.ends_of_continuous_updates += 1,
                248 => {
                    self.skip(3);
                    assert_eq!(self.read32() >> 31, 0, "an answer, no question");
                    let length = self.read::<1>()[0];
                    let mut payload = vec![0; length.into()];
                    self.stream.read_exact(&mut payload).unwrap();
                    self.fences.push(payload);
                }
                other => panic!("message {other}"),
            }
        }
        self.skip(1);
        let count = self.read16();
        (0..count).map(|_| self.rect()).collect()
    }

    fn rect(&mut self) -> Got {
        let [x, y, width, height] = [self.read16(), self.read16(), self.read16(), self.read16()];
        let got = Got { x, y, width, height, encoding: self.read32().cast_signed() };
        match got.encoding {
            0 => {
                for line in y..y + height {
                    let mut row = vec![0; usize::from(width) * 4];
                    self.stream.read_exact(&mut row).unwrap();
                    let to = self.at(x, line);
                    for (pixel, bytes) in self.pixels[to..].iter_mut().zip(row.chunks_exact(4)) {
                        *pixel = u32::from_le_bytes(bytes.try_into().unwrap());
                    }
                }
            }
            COPY_RECT => {
                let (from_x, from_y) = (self.read16(), self.read16());
                let before = self.pixels.clone();
                for line in 0..height {
                    let (from, to) = (self.at(from_x, from_y + line), self.at(x, y + line));
                    self.pixels[to..to + usize::from(width)]
                        .copy_from_slice(&before[from..from + usize::from(width)]);
                }
            }
            DESKTOP_SIZE | EXTENDED_DESKTOP_SIZE => {
                if got.encoding == EXTENDED_DESKTOP_SIZE {
                    let screens = self.read::<4>()[0];
                    self.skip(16 * usize::from(screens));
                }
                if got.y == 0 || got.encoding == DESKTOP_SIZE {
                    (self.width, self.height) = (width, height);
                    self.pixels = vec![0; usize::from(width) * usize::from(height)];
                }
            }
            DESKTOP_NAME => self.name = self.text(),
            CURSOR => {
                self.skip(usize::from(height) * (usize::from(width) * 4 + usize::from(width).div_ceil(8)))
            }
            other => panic!("encoding {other}"),
        }
        got
    }

    fn at(&self, x: u16, y: u16) -> usize {
        usize::from(y) * usize::from(self.width) + usize::from(x)
    }

    /// Whether the other side has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 4096]), Ok(0) | Err(_))
    }
}
