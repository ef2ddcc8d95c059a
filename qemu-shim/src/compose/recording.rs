//! Recorded stacks of planes and what the kernel's vkms made of them.

use std::io::{self, BufRead};

use serde::Deserialize;
use thiserror::Error;
use vfio_gfx::format::Fourcc;

use super::{Canvas, Layer};

/// Longest line that is read.
const MAX_LINE: usize = 1 << 16;
/// Largest side of a mode or plane: vkms' own limit.
const MAX_SIDE: u32 = 8192;
/// Most planes in a stack; DRM has 32 per device.
const MAX_PLANES: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    mode: (u32, u32),
    crc: String,
    /// Whether two frames in a row had this checksum.
    #[serde(rename = "stable")]
    _stable: bool,
    planes: Vec<Plane>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plane {
    index: u32,
    #[serde(rename = "type")]
    _type: String,
    format: String,
    w: u32,
    h: u32,
    x: i32,
    y: i32,
    seed: u32,
}

/// Why a recording cannot be replayed.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("line {line}: cannot read")]
    Read {
        /// Counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is not a recorded stack.
    #[error("line {line}: not a recorded stack of planes")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A size, number or format that vkms does not have.
    #[error("line {line}: {what}")]
    Absurd {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

/// A stack of which we make something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Line of the recording, from 1.
    pub line: usize,
    /// The kernel's checksum, as recorded.
    pub kernel: String,
    /// Ours: 8 lower-case hexadecimal digits.
    pub ours: String,
}

/// Composes every stack of a recording and hands those whose checksum differs to `report`. Returns how many records there
/// were.
///
/// # Errors
/// [`RecordingError`] at the first line that is no record.
pub fn replay(
    recording: impl BufRead,
    mut report: impl FnMut(&Difference) -> io::Result<()>,
) -> Result<usize, RecordingError> {
    let mut records = 0;
    for (line, text) in (1..).zip(recording.lines()) {
        let text = text.map_err(|source| RecordingError::Read { line, source })?;
        let absurd = |what: String| RecordingError::Absurd { line, what };
        if text.len() > MAX_LINE {
            return Err(absurd(format!("{} bytes are more than a record has", text.len())));
        }
        let record: Record =
            serde_json::from_str(&text).map_err(|source| RecordingError::Json { line, source })?;
        let ours = format!("{:08x}", compose(record.mode, record.planes).map_err(absurd)?);
        records += 1;
        if ours != record.crc {
            let difference = Difference { line, kernel: record.crc, ours };
            report(&difference).map_err(|source| RecordingError::Read { line, source })?;
        }
    }
    Ok(records)
}

fn compose((width, height): (u32, u32), planes: Vec<Plane>) -> Result<u32, String> {
    let possible = |side: u32| (1..=MAX_SIDE).contains(&side);
    if !possible(width) || !possible(height) || planes.len() > MAX_PLANES {
        return Err(format!("{} planes on {width}x{height} pixels are beyond vkms", planes.len()));
    }
    let mut canvas = Canvas::new(width, height);
    for plane in drawn(planes)? {
        if !canvas.blend(&plane.layer()) {
            return Err(format!("vkms has no format {}", plane.format));
        }
    }
    Ok(canvas.crc())
}

/// A plane with its pixels.
struct Drawn {
    format: Fourcc,
    plane: Plane,
    bytes: Vec<u8>,
}

impl Drawn {
    fn layer(&self) -> Layer<'_> {
        let Plane { w: width, h: height, x, y, .. } = self.plane;
        let stride = self.bytes.len() / height as usize;
        Layer { format: self.format, width, height, x, y, stride, bytes: &self.bytes }
    }
}

/// Planes as the recorder drew them, the lowest first.
fn drawn(mut planes: Vec<Plane>) -> Result<Vec<Drawn>, String> {
    let possible = |side: u32| (1..=MAX_SIDE).contains(&side);
    planes.sort_by_key(|plane| plane.index);
    let draw = |plane: Plane| {
        if !possible(plane.w) || !possible(plane.h) {
            return Err(format!("a plane of {}x{} pixels is beyond vkms", plane.w, plane.h));
        }
        let unknown = || format!("vkms has no format {:?}", plane.format);
        let name = <[u8; 4]>::try_from(plane.format.as_bytes()).map_err(|_| unknown())?;
        let format = Fourcc::from_bytes(name);
        let bytes = content(&plane, format).ok_or_else(unknown)?;
        Ok(Drawn { format, plane, bytes })
    };
    planes.into_iter().map(draw).collect()
}

/// The pixels of a plane, as the recorder made them: one step of xorshift32 per pixel, from the seed; the state's bytes are
/// alpha, red, green, blue, from the top. Formats with alpha are pre-multiplied.
fn content(plane: &Plane, format: Fourcc) -> Option<Vec<u8>> {
    let bytes_per_pixel = format.bytes_per_pixel()? as usize;
    let mut bytes = Vec::with_capacity(plane.w as usize * plane.h as usize * bytes_per_pixel);
    let mut state = plane.seed;
    for _ in 0..u64::from(plane.w) * u64::from(plane.h) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let [a, r, g, b] = state.to_be_bytes();
        let alpha = |channel: u8| {
            let scaled = u16::from(channel) * u16::from(a) / 255;
            if format.has_alpha() { u8::try_from(scaled).unwrap_or(u8::MAX) } else { channel }
        };
        let (r, g, b) = (alpha(r), alpha(g), alpha(b));
        match format {
            Fourcc::ARGB8888 | Fourcc::XRGB8888 => bytes.extend([b, g, r, a]),
            Fourcc::ARGB16161616 | Fourcc::XRGB16161616 => bytes.extend([b, b, g, g, r, r, a, a]),
            Fourcc::RGB565 => {
                let packed = u16::from(r >> 3) << 11 | u16::from(g >> 2) << 5 | u16::from(b >> 3);
                bytes.extend(packed.to_le_bytes());
            }
            _ => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::fast;
    use super::*;
    use std::io::Cursor;

    const RECORDING: &str = include_str!("../../tests/data/vkms.walk1.jsonl");

    fn run(recording: &str) -> (usize, Vec<Difference>) {
        let mut differences = Vec::new();
        let records = replay(Cursor::new(recording), |difference| {
            differences.push(difference.clone());
            Ok(())
        });
        (records.unwrap(), differences)
    }

    #[test]
    fn every_stack_looks_as_the_kernel_has_it() {
        assert_eq!(run(RECORDING), (60, vec![]));
    }

    #[test]
    fn the_fast_way_is_within_a_step_of_it() {
        for line in RECORDING.lines() {
            let record: Record = serde_json::from_str(line).unwrap();
            let planes = drawn(record.planes).unwrap();
            let layers: Vec<_> = planes.iter().map(Drawn::layer).collect();
            let (width, height) = record.mode;
            assert_eq!(fast::tests::compare_with_canvas(width, height, &layers), Ok(()), "{line}");
        }
    }

    #[test]
    fn one_pixel_to_the_left_is_noticed() {
        let start: String = RECORDING.split_inclusive('\n').take(3).collect();
        let moved = start.replacen("\"x\":486", "\"x\":485", 1);
        let (_, differences) = run(&moved);
        assert_eq!(differences.iter().map(|difference| difference.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let plane = r#"{"index":0,"type":"primary","format":"AR24","w":1,"h":1,"x":0,"y":0,"seed":1}"#;
        let record = |mode: &str, plane: &str| {
            format!(r#"{{"mode":{mode},"crc":"0","stable":true,"planes":[{plane}]}}"#)
        };
        assert!(replay(Cursor::new(record("[1,1]", plane)), |_| Ok(())).is_ok());
        for bad in [
            "{}".to_owned(),
            record("[0,1]", plane),
            record("[100000,100000]", plane),
            record("[1,1]", &plane.replace("AR24", "NV12")),
            record("[1,1]", &plane.replace("AR24", "nonsense")),
            record("[1,1]", &plane.replace("\"w\":1", "\"w\":4294967295")),
        ] {
            assert!(replay(Cursor::new(&bad), |_| Ok(())).is_err(), "{bad}");
        }
    }
}
