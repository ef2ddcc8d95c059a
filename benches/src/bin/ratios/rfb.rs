//! A VNC viewer that counts what it is sent and does not look at it (RFC 6143, and rfbproto for Tight).

use std::error::Error;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a server may keep silent. QEMU's looks at its screen every three seconds when nothing happens.
const PATIENCE: Duration = Duration::from_secs(60);

/// Encodings, by their numbers.
const RAW: u32 = 0;
pub(crate) const TIGHT: u32 = 7;
pub(crate) const ZRLE: u32 = 16;
/// Compression level 0 and JPEG quality 0, the first of ten each.
const LEVEL_0: i32 = -256;
const QUALITY_0: i32 = -32;

/// Blocks below this many bytes are not compressed in Tight.
const TIGHT_LEAST: usize = 12;

/// What a viewer asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// [`TIGHT`] or [`ZRLE`].
    pub(crate) encoding: u32,
    /// Compression, 0 to 9.
    pub(crate) level: u8,
    /// JPEG quality, 0 to 9; lossless where there is none.
    pub(crate) quality: Option<u8>,
}

/// A connected viewer.
pub(crate) struct Viewer {
    stream: BufReader<UnixStream>,
    size: (u16, u16),
    /// Bytes received.
    received: u64,
}

impl Viewer {
    /// Connects and asks for 32 bits per pixel, little-endian, red at bit 16, green at 8, blue at 0.
    pub(crate) fn connect(path: &Path, wish: Wish) -> Result<Self, Box<dyn Error>> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut viewer =
            Self { stream: BufReader::with_capacity(1 << 16, stream), size: (0, 0), received: 0 };
        viewer.skip(12)?;
        viewer.send(b"RFB 003.008\n")?;
        let types = viewer.bytes::<1>()?;
        viewer.skip(types[0].into())?;
        // Security type None, and its result.
        viewer.send(&[1])?;
        viewer.skip(4)?;
        viewer.send(&[1])?;
        viewer.size = (viewer.read16()?, viewer.read16()?);
        viewer.skip(16)?;
        let name = viewer.read32()?;
        viewer.skip(name.into())?;
        viewer.send(&[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])?;
        let mut encodings = vec![wish.encoding.cast_signed(), LEVEL_0 + i32::from(wish.level)];
        encodings.extend(wish.quality.map(|quality| QUALITY_0 + i32::from(quality)));
        let mut message = vec![2, 0, 0, u8::try_from(encodings.len())?];
        message.extend(encodings.into_iter().flat_map(i32::to_be_bytes));
        viewer.send(&message)?;
        Ok(viewer)
    }

    /// Width and height of the screen, in pixels.
    pub(crate) fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Asks for the screen, or for what changes on it.
    pub(crate) fn request(&mut self, incremental: bool) -> std::io::Result<()> {
        let (width, height) = self.size;
        let [[a, b], [c, d]] = [width.to_be_bytes(), height.to_be_bytes()];
        self.send(&[3, incremental.into(), 0, 0, 0, 0, a, b, c, d])
    }

    /// The whole screen; returns how many bytes it took.
    pub(crate) fn picture(&mut self) -> Result<u64, Box<dyn Error>> {
        let before = self.received;
        self.request(false)?;
        let mut left = u64::from(self.size.0) * u64::from(self.size.1);
        while left > 0 {
            let pixels = self.receive()?;
            left = left.checked_sub(pixels).ok_or("an update has more pixels than were asked for")?;
        }
        Ok(self.received - before)
    }

    /// One update; returns how many pixels are in it.
    pub(crate) fn receive(&mut self) -> Result<u64, Box<dyn Error>> {
        let [kind, _, count @ ..] = self.bytes::<4>()?;
        if kind != 0 {
            return Err(format!("expected an update, found message {kind}").into());
        }
        let mut pixels = 0;
        for _ in 0..u16::from_be_bytes(count) {
            self.skip(4)?;
            let (width, height) = (self.read16()?, self.read16()?);
            pixels += u64::from(width) * u64::from(height);
            let (width, height) = (usize::from(width), usize::from(height));
            match self.read32()? {
                RAW => self.skip((width * height * 4) as u64)?,
                ZRLE => {
                    let length = self.read32()?;
                    self.skip(length.into())?;
                }
                TIGHT => self.tight(width, height)?,
                other => return Err(format!("encoding {other} was not asked for").into()),
            }
        }
        Ok(pixels)
    }

    /// A rectangle in Tight, with pixels of three bytes.
    fn tight(&mut self, width: usize, height: usize) -> Result<(), Box<dyn Error>> {
        let [control] = self.bytes()?;
        let length = match control >> 4 {
            8 => return Ok(self.skip(3)?),
            // JPEG.
            9 => self.compact()?,
            method @ 0..8 => {
                let filter = if method & 4 != 0 { self.bytes::<1>()?[0] } else { 0 };
                let plain = match filter {
                    // Copy, gradient.
                    0 | 2 => width * height * 3,
                    1 => {
                        let colours = usize::from(self.bytes::<1>()?[0]) + 1;
                        self.skip(colours as u64 * 3)?;
                        if colours == 2 { width.div_ceil(8) * height } else { width * height }
                    }
                    other => return Err(format!("Tight has no filter {other}").into()),
                };
                if plain < TIGHT_LEAST { plain as u64 } else { self.compact()? }
            }
            other => return Err(format!("Tight has no method {other}").into()),
        };
        Ok(self.skip(length)?)
    }

    /// A length of up to three bytes, seven bits in each, the lowest first.
    fn compact(&mut self) -> std::io::Result<u64> {
        let mut length = 0;
        for shift in [0, 7, 14] {
            let [byte] = self.bytes()?;
            let (bits, more) = if shift == 14 { (byte, false) } else { (byte & 0x7f, byte & 0x80 != 0) };
            length |= u64::from(bits) << shift;
            if !more {
                break;
            }
        }
        Ok(length)
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn bytes<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        self.received += N as u64;
        Ok(bytes)
    }

    fn read16(&mut self) -> std::io::Result<u16> {
        Ok(u16::from_be_bytes(self.bytes()?))
    }

    fn read32(&mut self) -> std::io::Result<u32> {
        Ok(u32::from_be_bytes(self.bytes()?))
    }

    fn skip(&mut self, count: u64) -> std::io::Result<()> {
        let taken = std::io::copy(&mut (&mut self.stream).take(count), &mut std::io::sink())?;
        self.received += taken;
        if taken == count { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }
}
