//! A viewer, written from the specification alone: one inflater for each stream, kept for the whole connection.

use flate2::{Decompress, FlushDecompress};

use super::super::{ClientStreams, Encoded};
use super::reference::Reference;

/// Reads from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(count);
        self.0 = rest;
        head
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn number(&mut self, bytes: usize) -> usize {
        self.take(bytes).iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    fn compact_length(&mut self) -> usize {
        let mut length = 0;
        for shift in [0, 7, 14] {
            let byte = usize::from(self.byte());
            if shift == 14 {
                return length | byte << 14;
            }
            length |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        length
    }
}

/// What a piece of a stream is, which must be all of the piece.
fn inflate(stream: &mut Decompress, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 16);
    let start = stream.total_in();
    loop {
        out.reserve(1 << 16);
        let read = usize::try_from(stream.total_in() - start).unwrap();
        stream.decompress_vec(&data[read..], &mut out, FlushDecompress::Sync).unwrap();
        if out.len() < out.capacity() {
            break;
        }
    }
    assert_eq!(stream.total_in() - start, data.len() as u64, "a stream goes on behind its piece");
    out
}

/// How a pixel is written.
#[derive(Clone, Copy)]
enum Layout {
    /// So many bytes, the first of which is that of this power of 256, and whether the most significant comes first.
    Value {
        bytes: usize,
        lowest: u32,
        big_endian: bool,
    },
    Rgb,
}

pub(super) struct Client {
    format: [u8; 16],
    reference: Reference,
    width: usize,
    /// The values of all pixels.
    pub(super) pixels: Vec<u32>,
    /// JPEG pictures so far.
    pub(super) jpegs: usize,
    /// Fills so far.
    pub(super) fills: usize,
    seen: ClientStreams,
    zlib: Decompress,
    zrle: Decompress,
    tight: [Decompress; 4],
}

type Area = (usize, usize, usize, usize);

impl Client {
    pub(super) fn new(format: &[u8; 16], width: u32, height: u32) -> Self {
        let stream = || Decompress::new(true);
        Self {
            format: *format,
            reference: Reference::new(format),
            width: width as usize,
            pixels: vec![0; (width * height) as usize],
            jpegs: 0,
            fills: 0,
            seen: ClientStreams::default(),
            zlib: stream(),
            zrle: stream(),
            tight: [stream(), stream(), stream(), stream()],
        }
    }

    pub(super) fn update(&mut self, encoded: &Encoded) {
        let mut all = Vec::new();
        encoded.write(&mut self.seen, &mut all);
        let mut bytes = Bytes(&all);
        for _ in 0..encoded.count() {
            let area = (bytes.number(2), bytes.number(2), bytes.number(2), bytes.number(2));
            match u32::try_from(bytes.number(4)).unwrap().cast_signed() {
                0 => self.raw(area, &mut bytes),
                6 => {
                    let length = bytes.number(4);
                    let pixels = inflate(&mut self.zlib, bytes.take(length));
                    let mut pixels = Bytes(&pixels);
                    self.raw(area, &mut pixels);
                    assert!(pixels.0.is_empty());
                }
                16 => self.zrle(area, &mut bytes),
                7 => self.tight(area, &mut bytes, false),
                -260 => self.tight(area, &mut bytes, true),
                other => panic!("encoding {other}"),
            }
        }
        assert!(bytes.0.is_empty(), "{} bytes too many", bytes.0.len());
    }

    fn pixel(&self) -> Layout {
        Layout::Value { bytes: usize::from(self.format[0] / 8), lowest: 0, big_endian: self.format[2] != 0 }
    }

    /// The bits that colours take.
    fn used(&self) -> u32 {
        [(4, 10), (6, 11), (8, 12)].into_iter().fold(0, |used, (max, shift)| {
            let max = u16::from_be_bytes([self.format[max], self.format[max + 1]]);
            used | (u32::from(max) + 1).next_power_of_two().wrapping_sub(1) << self.format[shift]
        })
    }

    fn cpixel(&self) -> Layout {
        let [bits, depth, big_endian, true_colour, ..] = self.format;
        if true_colour == 0 || bits != 32 || depth > 24 {
            return self.pixel();
        }
        let big_endian = big_endian != 0;
        match self.used() {
            used if used >> 24 == 0 => Layout::Value { bytes: 3, lowest: 0, big_endian },
            used if used & 0xff == 0 => Layout::Value { bytes: 3, lowest: 1, big_endian },
            _ => self.pixel(),
        }
    }

    fn tpixel(&self) -> Layout {
        match &self.format[..10] {
            [32, 24, _, 1, 0, 255, 0, 255, 0, 255] => Layout::Rgb,
            _ => self.pixel(),
        }
    }

    fn read(&self, layout: Layout, bytes: &mut Bytes<'_>) -> u32 {
        match layout {
            Layout::Rgb => self.reference.value(bytes.take(3).try_into().unwrap()),
            Layout::Value { bytes: count, lowest, big_endian } => {
                let mut value = bytes.take(count).to_vec();
                if big_endian {
                    value.reverse();
                }
                value.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)) << (8 * lowest)
            }
        }
    }

    fn read_many(&self, count: usize, layout: Layout, bytes: &mut Bytes<'_>) -> Vec<u32> {
        (0..count).map(|_| self.read(layout, bytes)).collect()
    }

    fn draw(&mut self, (x, y, width, height): Area, values: &[u32]) {
        assert_eq!(values.len(), width * height);
        for (row, values) in values.chunks(width).enumerate() {
            self.pixels[(y + row) * self.width + x..][..width].copy_from_slice(values);
        }
    }

    fn raw(&mut self, area: Area, bytes: &mut Bytes<'_>) {
        let values = self.read_many(area.2 * area.3, self.pixel(), bytes);
        self.draw(area, &values);
    }

    fn zrle(&mut self, (x, y, width, height): Area, bytes: &mut Bytes<'_>) {
        let length = bytes.number(4);
        let data = inflate(&mut self.zrle, bytes.take(length));
        let mut data = Bytes(&data);
        for top in (0..height).step_by(64) {
            for left in (0..width).step_by(64) {
                let size = (64.min(width - left), 64.min(height - top));
                let values = self.tile(size, &mut data);
                self.draw((x + left, y + top, size.0, size.1), &values);
            }
        }
        assert!(data.0.is_empty());
    }

    fn tile(&self, (width, height): (usize, usize), data: &mut Bytes<'_>) -> Vec<u32> {
        let layout = self.cpixel();
        let area = width * height;
        let mut values = Vec::new();
        match data.byte() {
            0 => return self.read_many(area, layout, data),
            1 => return vec![self.read(layout, data); area],
            colours @ 2..=16 => {
                let palette = self.read_many(colours.into(), layout, data);
                let bits = match colours {
                    2 => 1,
                    3..=4 => 2,
                    _ => 4,
                };
                return unpacked(data, width, height, bits).map(|index| palette[index]).collect();
            }
            128 => {
                while values.len() < area {
                    let value = self.read(layout, data);
                    values.resize(values.len() + run(data), value);
                }
            }
            subencoding @ 130.. => {
                let palette = self.read_many(usize::from(subencoding - 128), layout, data);
                while values.len() < area {
                    let index = data.byte();
                    let length = if index < 128 { 1 } else { run(data) };
                    values.resize(values.len() + length, palette[usize::from(index & 0x7f)]);
                }
            }
            other => panic!("subencoding {other}"),
        }
        values
    }

    fn tight(&mut self, area: Area, bytes: &mut Bytes<'_>, png: bool) {
        let count = area.2 * area.3;
        assert!(area.2 <= 2048);
        let control = bytes.byte();
        for (number, stream) in self.tight.iter_mut().enumerate() {
            if control >> number & 1 == 1 {
                *stream = Decompress::new(true);
            }
        }
        let values = match control >> 4 {
            8 => {
                self.fills += 1;
                vec![self.read(self.tpixel(), bytes); count]
            }
            9 => {
                self.jpegs += 1;
                let length = bytes.compact_length();
                let data = zune_jpeg::zune_core::bytestream::ZCursor::new(bytes.take(length));
                self.rgb(&zune_jpeg::JpegDecoder::new(data).decode().unwrap())
            }
            10 if png => {
                let length = bytes.compact_length();
                let frame = crate::image::read_png(std::io::Cursor::new(bytes.take(length))).unwrap();
                assert_eq!((frame.width() as usize, frame.height() as usize), (area.2, area.3));
                let colours = frame.pixels().iter().map(|pixel| pixel.to_be_bytes());
                colours.map(|[_, red, green, blue]| self.reference.value([red, green, blue])).collect()
            }
            0..8 if !png => self.basic(control, area, bytes),
            _ => panic!("compression control {control:#x}"),
        };
        self.draw(area, &values);
    }

    fn rgb(&self, bytes: &[u8]) -> Vec<u32> {
        bytes.as_chunks::<3>().0.iter().map(|rgb| self.reference.value(*rgb)).collect()
    }

    fn basic(&mut self, control: u8, (_, _, width, height): Area, bytes: &mut Bytes<'_>) -> Vec<u32> {
        let layout = self.tpixel();
        let filter = if control & 0x40 == 0 { 0 } else { bytes.byte() };
        let palette = match filter {
            0 => Vec::new(),
            1 => {
                let colours = usize::from(bytes.byte()) + 1;
                self.read_many(colours, layout, bytes)
            }
            other => panic!("filter {other}"),
        };
        let pixel = match layout {
            Layout::Rgb => 3,
            Layout::Value { bytes, .. } => bytes,
        };
        let size = match palette.len() {
            0 => width * height * pixel,
            2 => width.div_ceil(8) * height,
            _ => width * height,
        };
        let data = if size < 12 {
            bytes.take(size).to_vec()
        } else {
            let length = bytes.compact_length();
            inflate(&mut self.tight[usize::from(control >> 4 & 3)], bytes.take(length))
        };
        assert_eq!(data.len(), size);
        let mut data = Bytes(&data);
        match palette.len() {
            0 => self.read_many(width * height, layout, &mut data),
            2 => unpacked(&mut data, width, height, 1).map(|index| palette[index]).collect(),
            _ => data.0.iter().map(|index| palette[usize::from(*index)]).collect(),
        }
    }
}

fn run(data: &mut Bytes<'_>) -> usize {
    let mut length = 1;
    loop {
        let byte = data.byte();
        length += usize::from(byte);
        if byte != 255 {
            return length;
        }
    }
}

/// Indices of so many bits each, rows padded to bytes.
fn unpacked(data: &mut Bytes<'_>, width: usize, height: usize, bits: usize) -> std::vec::IntoIter<usize> {
    let stride = (width * bits).div_ceil(8);
    let mut indices = Vec::new();
    for _ in 0..height {
        let row = data.take(stride);
        for x in 0..width {
            let at = x * bits;
            indices.push(usize::from(row[at / 8]) >> (8 - bits - at % 8) & ((1 << bits) - 1));
        }
    }
    indices.into_iter()
}
