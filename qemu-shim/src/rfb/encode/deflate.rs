//! A compressor that appends to a vector and starts anew for each update.

use flate2::{Compress, CompressError, Compression, FlushCompress, Status};

/// Room made at a time for what the compressor puts out.
const ROOM: usize = 16 << 10;

/// The compressor's level for each level of the protocol. The compressor's own first has fixed codes only, which make pictures
/// larger by a fifth, and all its lower ones leave more than zlib's of the same number: one step up makes up for both.
const LEVELS: [u32; 10] = [0, 2, 3, 4, 5, 6, 7, 8, 9, 9];

/// Level for what no search finds repetitions in: the quickest that has codes of its own.
const QUICK: u32 = 2;

/// Bytes in which it shows whether there are repetitions.
const TRIED: u64 = 32 << 10;

/// How far back a stream looks: 2 to the power of this, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Window {
    /// As far as deflate can.
    Long = 15,
    /// As little as can be: for data in which repetitions are chance, and cost more than the bytes they stand for.
    Short = 9,
}

/// A deflate stream, in the form of RFC 1950 (with its 2-byte header) or bare (RFC 1951).
#[derive(Debug)]
pub(super) struct Deflater {
    stream: Compress,
    level: u32,
    /// Something was put in since the start.
    used: bool,
    /// What is put in is compressed at level [`QUICK`].
    is_quick: bool,
    /// What had gone in and come out when [`Deflater::adapt`] last looked, in bytes.
    judged: (u64, u64),
}

impl Deflater {
    /// A stream of the protocol's compression level 0 to 9; higher ones mean 9. Only `header` makes it RFC 1950.
    #[expect(clippy::as_conversions, reason = "the discriminants are the numbers")]
    pub(super) fn new(level: u8, header: bool, window: Window) -> Self {
        let [.., highest] = LEVELS;
        let level = LEVELS.get(usize::from(level)).copied().unwrap_or(highest);
        let stream = Compress::new_with_window_bits(Compression::new(level), header, window as u8);
        Self { stream, level, used: false, is_quick: false, judged: (0, 0) }
    }

    /// Starts anew: what follows does not refer to anything before.
    pub(super) fn restart(&mut self) -> Result<(), CompressError> {
        self.restart_quick(false)
    }

    /// Decides how hard to look for repetitions from here on in a bare stream: as the level says, or no more than must be if less
    /// than a quarter was saved of what went in last, as of photos. That is tried anew all the time, and may append output.
    pub(super) fn adapt(&mut self, out: &mut Vec<u8>) -> Result<(), CompressError> {
        let (total_in, total_out) = (self.stream.total_in(), self.stream.total_out());
        let (taken, given) = (total_in - self.judged.0, total_out - self.judged.1);
        if taken < TRIED {
            return Ok(());
        }
        self.judged = (total_in, total_out);
        let is_noise = given > taken - taken / 4;
        if is_noise != self.is_quick && self.level > QUICK {
            self.flush(out)?;
            self.restart_quick(is_noise)?;
        }
        Ok(())
    }

    /// Starts anew at another level: zlib-rs can change it only then.
    fn restart_quick(&mut self, is_quick: bool) -> Result<(), CompressError> {
        if self.used {
            self.stream.reset();
            self.used = false;
            self.judged = (0, 0);
        }
        if self.is_quick != is_quick {
            self.stream.set_level(Compression::new(if is_quick { QUICK } else { self.level }))?;
            self.is_quick = is_quick;
        }
        Ok(())
    }

    /// Takes more input, and appends what output there is already.
    pub(super) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
        self.run(input, FlushCompress::None, out)
    }

    /// Appends all output that is still due, up to a byte boundary; the stream goes on behind it.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), CompressError> {
        self.run(&[], FlushCompress::Sync, out)
    }

    /// Appends the stream's end.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), CompressError> {
        self.run(&[], FlushCompress::Finish, out)
    }

    fn run(
        &mut self,
        mut input: &[u8],
        flush: FlushCompress,
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        self.used = true;
        loop {
            out.reserve(ROOM);
            let before = self.stream.total_in();
            let status = self.stream.compress_vec(input, out, flush)?;
            let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            // Output is complete when there was room for more; no progress is possible when there was nothing left to do.
            let has_room = out.len() < out.capacity();
            if status != Status::Ok || (input.is_empty() && has_room) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};
    use proptest::prelude::*;

    use super::*;

    /// What one inflater makes of a piece of a stream.
    fn inflated(inflater: &mut Decompress, piece: &[u8], length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length + 64);
        let before = inflater.total_in();
        inflater.decompress_vec(piece, &mut out, FlushDecompress::Sync).unwrap();
        assert_eq!(inflater.total_in() - before, piece.len() as u64, "all of the piece is read");
        out
    }

    proptest! {
        #[test]
        fn one_inflater_reads_many_updates(
            level in 0..=10u8,
            updates in prop::collection::vec(prop::collection::vec(prop::collection::vec(0..4u8, 0..9000), 1..4), 1..4),
        ) {
            let mut deflater = Deflater::new(level, false, Window::Long);
            let mut inflater = Decompress::new(false);
            for update in updates {
                deflater.restart().unwrap();
                for piece in update {
                    let mut out = Vec::new();
                    let (head, tail) = piece.split_at(piece.len() / 3);
                    deflater.feed(head, &mut out).unwrap();
                    deflater.feed(tail, &mut out).unwrap();
                    deflater.flush(&mut out).unwrap();
                    prop_assert_eq!(inflated(&mut inflater, &out, piece.len()), piece);
                }
            }
        }
    }

    #[test]
    fn what_has_no_repetitions_is_not_searched_for_them() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        for level in 0..=9 {
            let mut deflater = Deflater::new(level, false, Window::Long);
            let mut inflater = Decompress::new(false);
            let mut quick = Vec::new();
            for is_noise in [false, true, true, false, true] {
                let piece: Vec<u8> = (0..50_000)
                    .map(|at| if is_noise { noise() } else { (at % 100).try_into().unwrap() })
                    .collect();
                let mut out = Vec::new();
                for part in piece.chunks(10_000) {
                    deflater.feed(part, &mut out).unwrap();
                }
                deflater.adapt(&mut out).unwrap();
                deflater.flush(&mut out).unwrap();
                assert_eq!(inflated(&mut inflater, &out, piece.len()), piece, "level {level}");
                quick.push(deflater.is_quick);
            }
            // The lowest levels are as quick as can be.
            assert_eq!(
                quick,
                [false, true, true, false, true].map(|quick| quick && level > 1),
                "level {level}"
            );
            deflater.restart().unwrap();
            assert!(!deflater.is_quick);
        }
    }

    #[test]
    fn restarted_streams_are_alike() {
        let mut deflater = Deflater::new(6, true, Window::Long);
        let run = |deflater: &mut Deflater| {
            let mut out = Vec::new();
            assert!(!deflater.used);
            deflater.feed(b"abcabcabc", &mut out).unwrap();
            deflater.flush(&mut out).unwrap();
            assert!(deflater.used);
            deflater.restart().unwrap();
            out
        };
        let first = run(&mut deflater);
        assert_eq!(first[0], 0x78);
        assert_eq!(run(&mut deflater), first);
    }
}
