//! A compressor that appends to a vector and starts anew for each update.

use flate2::{Compress, CompressError, Compression, FlushCompress, Status};

/// Room made at a time for what the compressor puts out.
const ROOM: usize = 16 << 10;

/// A deflate stream, in the form of RFC 1950 (with its 2-byte header) or bare (RFC 1951).
#[derive(Debug)]
pub(super) struct Deflater {
    stream: Compress,
    /// Something was put in since the start.
    used: bool,
}

impl Deflater {
    /// A stream of compression level 0 to 9; higher ones mean 9.
    pub(super) fn new(level: u8, header: bool) -> Self {
        let level = Compression::new(u32::from(level.min(9)));
        Self { stream: Compress::new(level, header), used: false }
    }

    /// Whether nothing was put in since the start.
    pub(super) fn is_fresh(&self) -> bool {
        !self.used
    }

    /// Starts anew: what follows does not refer to anything before.
    pub(super) fn restart(&mut self) {
        if self.used {
            self.stream.reset();
            self.used = false;
        }
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
            let mut deflater = Deflater::new(level, false);
            let mut inflater = Decompress::new(false);
            for update in updates {
                deflater.restart();
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
    fn restarted_streams_are_alike() {
        let mut deflater = Deflater::new(6, true);
        let run = |deflater: &mut Deflater| {
            let mut out = Vec::new();
            assert!(deflater.is_fresh());
            deflater.feed(b"abcabcabc", &mut out).unwrap();
            deflater.flush(&mut out).unwrap();
            assert!(!deflater.is_fresh());
            deflater.restart();
            out
        };
        let first = run(&mut deflater);
        assert_eq!(first[0], 0x78);
        assert_eq!(run(&mut deflater), first);
    }
}
