//! A Matroska file (RFC 9559) of PNG pictures.
//!
//! Lossless, of any frame rate, and open to every player that is made of FFmpeg or like it: PNG in Matroska goes by the name
//! that it has in AVI files, the four letters `MPNG`.
//!
//! Every picture is a cluster of its own, whole and of known size, written in one piece: whatever is in the file when the
//! recorder is killed can be played. What is known only at the end (the length, where to find which second) is then written
//! into room left for it, if the output lets us go back.

use std::io::{self, Seek, SeekFrom, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ebml::{Elements, UNKNOWN_SIZE, long_size};

const EBML: u32 = 0x1a45_dfa3;
const EBML_VERSION: u32 = 0x4286;
const EBML_READ_VERSION: u32 = 0x42f7;
const EBML_MAX_ID_LENGTH: u32 = 0x42f2;
const EBML_MAX_SIZE_LENGTH: u32 = 0x42f3;
const DOC_TYPE: u32 = 0x4282;
const DOC_TYPE_VERSION: u32 = 0x4287;
const DOC_TYPE_READ_VERSION: u32 = 0x4285;
const SEGMENT: u32 = 0x1853_8067;
const SEEK_HEAD: u32 = 0x114d_9b74;
const SEEK: u32 = 0x4dbb;
const SEEK_ID: u32 = 0x53ab;
const SEEK_POSITION: u32 = 0x53ac;
const INFO: u32 = 0x1549_a966;
const TIMESTAMP_SCALE: u32 = 0x002a_d7b1;
const DURATION: u32 = 0x4489;
const DATE_UTC: u32 = 0x4461;
const MUXING_APP: u32 = 0x4d80;
const WRITING_APP: u32 = 0x5741;
const TRACKS: u32 = 0x1654_ae6b;
const TRACK_ENTRY: u32 = 0xae;
const TRACK_NUMBER: u32 = 0xd7;
const TRACK_UID: u32 = 0x73c5;
const TRACK_TYPE: u32 = 0x83;
const FLAG_LACING: u32 = 0x9c;
const LANGUAGE: u32 = 0x0022_b59c;
const CODEC_ID: u32 = 0x86;
const CODEC_PRIVATE: u32 = 0x63a2;
const VIDEO: u32 = 0xe0;
const FLAG_INTERLACED: u32 = 0x9a;
const PIXEL_WIDTH: u32 = 0xb0;
const PIXEL_HEIGHT: u32 = 0xba;
const CLUSTER: u32 = 0x1f43_b675;
const TIMESTAMP: u32 = 0xe7;
const BLOCK_GROUP: u32 = 0xa0;
const BLOCK: u32 = 0xa1;
const BLOCK_DURATION: u32 = 0x9b;
const CUES: u32 = 0x1c53_bb6b;
const CUE_POINT: u32 = 0xbb;
const CUE_TIME: u32 = 0xb3;
const CUE_TRACK_POSITIONS: u32 = 0xb7;
const CUE_TRACK: u32 = 0xf7;
const CUE_CLUSTER_POSITION: u32 = 0xf1;

/// Nanoseconds in a unit of time of the file: milliseconds, as everybody has it.
const SCALE: u64 = 1_000_000;
/// The only track, and the same as a number of variable length.
const TRACK: u8 = 1;
/// 2001-01-01, from which Matroska counts, in seconds after 1970.
const EPOCH: Duration = Duration::from_secs(978_307_200);
/// Ids, sizes and numbers of [`seek_head`].
const SEEK_HEAD_SIZE: usize = 26;
/// The same of [`duration`].
const DURATION_SIZE: usize = 11;
/// The same of [`block_duration`].
const BLOCK_DURATION_SIZE: usize = 10;
/// Who looks for a second finds a place at most this many milliseconds before it.
const CUE_EVERY: u64 = 1000;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Matroska<W> {
    out: W,
    /// Bytes written.
    size: u64,
    /// Where the segment's payload begins, which all positions count from.
    segment: u64,
    /// Where the room for the length is.
    duration: u64,
    /// When and where there are clusters.
    cues: Vec<(u64, u64)>,
    /// Time of the last picture, in milliseconds.
    last: Option<u64>,
}

impl<W: Write + Seek> Matroska<W> {
    /// Begins a file of pictures of one size, in pixels; `date` is when the first is shown.
    pub(super) fn new(out: W, width: u32, height: u32, date: SystemTime) -> io::Result<Self> {
        let mut matroska = Self { out, size: 0, segment: 0, duration: 0, cues: Vec::new(), last: None };
        let mut head = Elements::default();
        head.master(EBML, |header| {
            header.number(EBML_VERSION, 1).number(EBML_READ_VERSION, 1);
            header.number(EBML_MAX_ID_LENGTH, 4).number(EBML_MAX_SIZE_LENGTH, 8);
            header.bytes(DOC_TYPE, &[b"matroska"]);
            header.number(DOC_TYPE_VERSION, 4).number(DOC_TYPE_READ_VERSION, 2);
        });
        head.id(SEGMENT).raw(&UNKNOWN_SIZE);
        matroska.segment = head.len() as u64;
        head.room(SEEK_HEAD_SIZE);
        head.master(INFO, |info| {
            info.number(TIMESTAMP_SCALE, SCALE);
            info.bytes(DATE_UTC, &[&date_utc(date)]);
            let app = concat!("qemu-shim ", env!("CARGO_PKG_VERSION")).as_bytes();
            info.bytes(MUXING_APP, &[app]).bytes(WRITING_APP, &[app]);
            info.room(DURATION_SIZE);
        });
        matroska.duration = (head.len() - DURATION_SIZE) as u64;
        head.master(TRACKS, |tracks| {
            tracks.master(TRACK_ENTRY, |track| {
                track.number(TRACK_NUMBER, TRACK.into()).number(TRACK_UID, TRACK.into());
                // Video.
                track.number(TRACK_TYPE, 1).number(FLAG_LACING, 0);
                // Said nothing, it would be English.
                track.bytes(LANGUAGE, &[b"und"]);
                track.bytes(CODEC_ID, &[b"V_MS/VFW/FOURCC"]);
                track.bytes(CODEC_PRIVATE, &[&bitmap_info(width, height)]);
                track.master(VIDEO, |video| {
                    // Progressive.
                    video.number(FLAG_INTERLACED, 2);
                    video.number(PIXEL_WIDTH, width.into()).number(PIXEL_HEIGHT, height.into());
                });
            });
        });
        matroska.append(&head)?;
        Ok(matroska)
    }

    /// Bytes in the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Appends a picture that is shown from this time on, in milliseconds after the first. Two pictures of one millisecond
    /// get one each.
    pub(super) fn picture(&mut self, time: u64, png: &[u8]) -> io::Result<()> {
        let time = self.last.map_or(time, |last| time.max(last + 1));
        let mut cluster = Elements::default();
        cluster.master(CLUSTER, |cluster| {
            cluster.number(TIMESTAMP, time);
            cluster.master(BLOCK_GROUP, |group| {
                // Track, time after the cluster's, no flags. Without a reference to another it is a key frame.
                group.bytes(BLOCK, &[&[0x80 | TRACK, 0, 0, 0], png]);
                group.room(BLOCK_DURATION_SIZE);
            });
        });
        if self.cues.last().is_none_or(|(last, _)| time - last >= CUE_EVERY) {
            self.cues.push((time, self.size - self.segment));
        }
        self.append(&cluster)?;
        self.last = Some(time);
        Ok(())
    }

    /// Ends the file: the last picture is shown until this time, in milliseconds after the first.
    pub(super) fn finish(mut self, end: u64) -> io::Result<u64> {
        let Some(last) = self.last else { return Ok(self.size) };
        let end = end.max(last + 1);
        // Each picture lasts until the next one; of the last one nobody knows unless it is said.
        let last_room = self.size - BLOCK_DURATION_SIZE as u64;
        let cues_position = self.size - self.segment;
        let mut cues = Elements::default();
        cues.master(CUES, |cues| {
            for (time, position) in &self.cues {
                cues.master(CUE_POINT, |point| {
                    point.number(CUE_TIME, *time);
                    point.master(CUE_TRACK_POSITIONS, |track| {
                        track.number(CUE_TRACK, TRACK.into()).number(CUE_CLUSTER_POSITION, *position);
                    });
                });
            }
        });
        self.append(&cues)?;
        if self.out.seek(SeekFrom::Start(last_room)).is_err() {
            // A pipe: whoever reads it does without.
            self.out.flush()?;
            return Ok(self.size);
        }
        self.out.write_all(block_duration(end - last).as_bytes())?;
        self.out.seek(SeekFrom::Start(self.duration))?;
        self.out.write_all(duration(end).as_bytes())?;
        self.out.seek(SeekFrom::Start(self.segment))?;
        self.out.write_all(seek_head(cues_position).as_bytes())?;
        self.out.seek(SeekFrom::Start(self.segment - 8))?;
        self.out.write_all(&long_size(self.size - self.segment))?;
        self.out.flush()?;
        Ok(self.size)
    }

    fn append(&mut self, elements: &Elements) -> io::Result<()> {
        if let Err(error) = self.out.write_all(elements.as_bytes()) {
            // What is appended next takes the place of the part that was written.
            let _ = self.out.seek(SeekFrom::Start(self.size));
            return Err(error);
        }
        self.size += elements.len() as u64;
        Ok(())
    }
}

/// Where the index is, counted from the segment's payload.
fn seek_head(cues: u64) -> Elements {
    let mut elements = Elements::default();
    elements.master(SEEK_HEAD, |head| {
        head.master(SEEK, |seek| {
            seek.bytes(SEEK_ID, &[&CUES.to_be_bytes()]).bytes(SEEK_POSITION, &[&cues.to_be_bytes()]);
        });
    });
    elements
}

/// How long the file is; a float in Matroska.
fn duration(milliseconds: u64) -> Elements {
    let mut elements = Elements::default();
    let seconds = Duration::from_millis(milliseconds).as_secs_f64();
    elements.bytes(DURATION, &[&(seconds * 1000.0).to_be_bytes()]);
    elements
}

/// How long a picture is shown, in milliseconds.
fn block_duration(milliseconds: u64) -> Elements {
    let mut elements = Elements::default();
    elements.bytes(BLOCK_DURATION, &[&milliseconds.to_be_bytes()]);
    elements
}

/// Nanoseconds since the epoch of Matroska; what is before it or after the year 2293 becomes the epoch.
fn date_utc(date: SystemTime) -> [u8; 8] {
    let since = date.duration_since(UNIX_EPOCH + EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or_default().to_be_bytes()
}

/// The `BITMAPINFOHEADER` of Video for Windows (`wingdi.h`), little-endian: 24-bit pictures packed as `MPNG`.
fn bitmap_info(width: u32, height: u32) -> [u8; 40] {
    let planes_and_depth = 1 | 24 << 16;
    let bytes = width.saturating_mul(height).saturating_mul(3);
    let fields = [40, width, height, planes_and_depth, u32::from_le_bytes(*b"MPNG"), bytes, 0, 0, 0, 0];
    let mut header = [0; 40];
    for (to, from) in header.as_chunks_mut::<4>().0.iter_mut().zip(fields) {
        *to = from.to_le_bytes();
    }
    header
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn what_is_replaced_has_the_size_of_its_room() {
        for number in [0, 1, 0x1234_5678, u64::MAX] {
            assert_eq!(seek_head(number).len(), SEEK_HEAD_SIZE);
            assert_eq!(duration(number).len(), DURATION_SIZE);
            assert_eq!(block_duration(number).len(), BLOCK_DURATION_SIZE);
        }
    }

    /// The file's elements: id, position, payload. Of unknown size = until the end.
    fn elements(bytes: &[u8]) -> Vec<(u32, usize, &[u8])> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            let mut number = |keep_mark: bool| {
                let length = bytes[at].leading_zeros() as usize + 1;
                let value =
                    bytes[at..at + length].iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
                at += length;
                if keep_mark { value } else { value ^ 1 << (7 * length) }
            };
            let (id, size) = (u32::try_from(number(true)).unwrap(), number(false));
            let end = if size == (1 << 56) - 1 { bytes.len() } else { at + usize::try_from(size).unwrap() };
            found.push((id, start, &bytes[at..end]));
            at = end;
        }
        found
    }

    #[track_caller]
    fn child(bytes: &[u8], id: u32) -> &[u8] {
        elements(bytes).into_iter().find(|element| element.0 == id).unwrap_or_else(|| panic!("no {id:x}")).2
    }

    fn number(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    #[test]
    fn a_whole_file() {
        let mut file = Cursor::new(Vec::new());
        let date = UNIX_EPOCH + EPOCH + Duration::from_secs(3);
        let mut matroska = Matroska::new(&mut file, 640, 480, date).unwrap();
        // The third is of the same millisecond, the last more than a second later.
        for (time, png) in [(0, &b"one"[..]), (40, b"two"), (40, b"three"), (70_000, b"four")] {
            matroska.picture(time, png).unwrap();
        }
        let size = matroska.finish(71_000).unwrap();
        let file = file.into_inner();
        assert_eq!(size, file.len() as u64);
        assert_eq!(elements(&file).iter().map(|element| element.0).collect::<Vec<_>>(), [EBML, SEGMENT]);
        let segment = child(&file, SEGMENT);
        let start = file.len() - segment.len();
        let info = child(segment, INFO);
        assert_eq!(child(info, DURATION), 71_000f64.to_be_bytes());
        assert_eq!(number(child(info, DATE_UTC)), 3_000_000_000);
        let video = child(child(child(segment, TRACKS), TRACK_ENTRY), VIDEO);
        assert_eq!((number(child(video, PIXEL_WIDTH)), number(child(video, PIXEL_HEIGHT))), (640, 480));

        let clusters: Vec<_> = elements(segment).into_iter().filter(|element| element.0 == CLUSTER).collect();
        let times: Vec<_> = clusters.iter().map(|cluster| number(child(cluster.2, TIMESTAMP))).collect();
        assert_eq!(times, [0, 40, 41, 70_000]);
        let groups: Vec<_> = clusters.iter().map(|cluster| child(cluster.2, BLOCK_GROUP)).collect();
        let blocks: Vec<_> = groups.iter().map(|group| child(group, BLOCK)).collect();
        assert_eq!(blocks, [&b"\x81\0\0\0one"[..], b"\x81\0\0\0two", b"\x81\0\0\0three", b"\x81\0\0\0four"]);
        assert_eq!(number(child(groups[3], BLOCK_DURATION)), 1000);

        let seek = child(child(segment, SEEK_HEAD), SEEK);
        let cues_at = usize::try_from(number(child(seek, SEEK_POSITION))).unwrap();
        let cues = elements(&segment[cues_at..])[0];
        assert_eq!(cues.0, CUES);
        let places: Vec<_> = elements(cues.2)
            .iter()
            .map(|point| {
                let place = child(child(point.2, CUE_TRACK_POSITIONS), CUE_CLUSTER_POSITION);
                (number(child(point.2, CUE_TIME)), usize::try_from(number(place)).unwrap())
            })
            .collect();
        assert_eq!(places, [(0, clusters[0].1), (70_000, clusters[3].1)]);
        assert_eq!(file[start + places[1].1..][..4], CLUSTER.to_be_bytes());
    }

    /// Killed at any time: all that was written is there, and what is not is said to be unknown.
    #[test]
    fn a_file_without_an_end() {
        let mut file = Cursor::new(Vec::new());
        let mut matroska = Matroska::new(&mut file, 1, 1, UNIX_EPOCH).unwrap();
        matroska.picture(0, b"one").unwrap();
        matroska.picture(9, b"two").unwrap();
        let file = file.into_inner();
        let segment = child(&file, SEGMENT);
        let clusters = elements(segment).into_iter().filter(|element| element.0 == CLUSTER).count();
        assert_eq!(clusters, 2);
        assert!(elements(segment).iter().all(|element| element.0 != CUES));
    }
}
