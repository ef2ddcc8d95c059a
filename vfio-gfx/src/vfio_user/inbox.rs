//! Bytes of a stream into messages.
//!
//! A read may bring part of a message or several, and descriptors beside them. Linux ends a read behind the first
//! piece that carries descriptors, but may begin it with earlier pieces, so a read's descriptors belong to the message
//! that holds the read's *last* byte.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use zerocopy::FromBytes;

use super::{HEADER_SIZE, Header, HeaderError, MAX_MSG_FDS};
use crate::number::to_u64;

/// What the buffer starts with and shrinks back to: every message but large region writes fits.
const SMALL: usize = 4096;

/// A whole message.
#[derive(Debug)]
pub struct Message<'a> {
    /// Its header.
    pub header: Header,
    /// What follows the header.
    pub payload: &'a [u8],
    /// The descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

/// The receiving end of a stream.
#[derive(Debug)]
pub struct Inbox {
    /// `buffer[start..end]` has not been consumed.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Position in the stream of `buffer[start]`.
    position: u64,
    /// Descriptors, with the stream position behind the read they came with.
    fds: VecDeque<(u64, Vec<OwnedFd>)>,
    limit: usize,
}

impl Inbox {
    /// An empty inbox for messages of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: vec![0; SMALL], start: 0, end: 0, position: 0, fds: VecDeque::new(), limit }
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or(&[])
    }

    /// The size of the message at the front, once its header is there.
    fn front_size(&self) -> Result<Option<(Header, usize)>, HeaderError> {
        match Header::read_from_prefix(self.pending()) {
            Ok((header, _)) => Ok(Some((header, header.message_size(self.limit)?))),
            Err(_) => Ok(None),
        }
    }

    /// Room for the next read; to be asked for when no whole message is left, and then never empty. Grows to the
    /// message at the front, whose size has been checked.
    ///
    /// # Errors
    /// [`HeaderError`] when the front is no message, or has more descriptors than one may have.
    pub fn space(&mut self) -> Result<&mut [u8], HeaderError> {
        // No whole message is left, so all of them came with the unfinished one.
        let found = self.fds.iter().map(|(_, fds)| fds.len()).sum();
        if found > MAX_MSG_FDS {
            return Err(HeaderError::Fds { found });
        }
        let wanted = self.front_size()?.map_or(HEADER_SIZE, |(_, size)| size).max(SMALL);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.buffer.truncate(wanted);
            self.buffer.shrink_to(wanted);
        }
        // A message that does not fit behind `start`, or a full buffer: move it to the front.
        if self.start > 0
            && (self.start.saturating_add(wanted) > self.buffer.len() || self.end == self.buffer.len())
        {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        Ok(self.buffer.get_mut(self.end..).unwrap_or(&mut []))
    }

    /// Says that `len` bytes were read into [`Inbox::space`], and these descriptors with them.
    pub fn filled(&mut self, len: usize, fds: Vec<OwnedFd>) {
        self.end = self.end.saturating_add(len).min(self.buffer.len());
        if !fds.is_empty() {
            let behind = self.position.saturating_add(to_u64(self.pending().len()));
            self.fds.push_back((behind, fds));
        }
    }

    /// Whether [`Inbox::next_message`] would return one.
    ///
    /// # Errors
    /// [`HeaderError`] when the stream cannot be followed any further.
    pub fn is_message_ready(&self) -> Result<bool, HeaderError> {
        Ok(self.front_size()?.is_some_and(|(_, size)| self.pending().len() >= size))
    }

    /// Takes the next message, when it is whole.
    ///
    /// # Errors
    /// [`HeaderError`] when the stream cannot be followed any further.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, HeaderError> {
        let Some((header, size)) = self.front_size()? else {
            return Ok(None);
        };
        if self.pending().len() < size {
            return Ok(None);
        }
        self.position = self.position.saturating_add(to_u64(size));
        let mut fds = Vec::new();
        while self.fds.front().is_some_and(|(behind, _)| *behind <= self.position) {
            fds.extend(self.fds.pop_front().into_iter().flat_map(|(_, fds)| fds));
        }
        let from = self.start;
        self.start = from.saturating_add(size);
        let payload = self.buffer.get(from.saturating_add(HEADER_SIZE)..self.start).unwrap_or(&[]);
        Ok(Some(Message { header, payload, fds }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfio_user::Command;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    fn message(id: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Header::command(id, Command::RegionWrite, payload.len()).as_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    /// One read after another, as much as there is room for; returns (id, payload, descriptors) of what became whole.
    fn feed(inbox: &mut Inbox, mut bytes: &[u8], fds: Vec<OwnedFd>) -> Vec<(u16, Vec<u8>, usize)> {
        let mut fds = Some(fds);
        let mut got = vec![];
        while !bytes.is_empty() {
            let space = inbox.space().unwrap();
            assert!(!space.is_empty());
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            inbox.filled(n, fds.take().unwrap_or_default());
            while let Ok(Some(message)) = inbox.next_message() {
                got.push((message.header.id, message.payload.to_vec(), message.fds.len()));
            }
        }
        got
    }

    fn fd() -> OwnedFd {
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn descriptors_go_to_the_message_with_the_reads_last_byte() {
        let mut inbox = Inbox::new(1024);
        let (first, second, third) = (message(1, b"a"), message(2, b"bb"), message(3, b""));
        let mut got = feed(&mut inbox, &[first, second].concat(), vec![fd()]);
        got.extend(feed(&mut inbox, &third, vec![fd(), fd()]));
        assert_eq!(got, [(1, b"a".to_vec(), 0), (2, b"bb".to_vec(), 1), (3, vec![], 2)]);
    }

    #[test]
    fn a_cut_message_keeps_its_descriptors() {
        let mut inbox = Inbox::new(1024);
        let whole = message(1, &[7; 100]);
        assert!(feed(&mut inbox, &whole[..20], vec![fd()]).is_empty());
        assert_eq!(feed(&mut inbox, &whole[20..], vec![]), [(1, vec![7; 100], 1)]);
    }

    #[test]
    fn descriptors_do_not_pile_up_behind_an_unfinished_message() {
        let mut inbox = Inbox::new(1024);
        let whole = message(1, &[7; 100]);
        for byte in &whole[..8] {
            feed(&mut inbox, &[*byte], vec![fd()]);
        }
        assert!(inbox.space().is_ok(), "as many as one message may have");
        inbox.filled(0, vec![fd()]);
        assert_eq!(inbox.space().unwrap_err(), HeaderError::Fds { found: 9 });
    }

    #[test]
    fn a_size_beyond_the_limit_allocates_nothing() {
        let mut inbox = Inbox::new(1 << 20);
        let mut header = Header::command(1, Command::RegionWrite, 0);
        header.size = u32::MAX;
        feed(&mut inbox, header.as_bytes(), vec![]);
        assert!(inbox.next_message().is_err());
        assert!(inbox.space().is_err());
        assert_eq!(inbox.buffer.len(), SMALL);
    }

    #[test]
    fn memory_is_given_back_after_a_large_message() {
        let mut inbox = Inbox::new(1 << 21);
        assert_eq!(feed(&mut inbox, &message(1, &vec![1; 1 << 20]), vec![])[0].1.len(), 1 << 20);
        inbox.space().unwrap();
        assert!(inbox.buffer.capacity() <= 2 * SMALL);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9000), 1..6),
                              cut in 1..5000usize) {
            let stream: Vec<u8> = payloads.iter().zip(0..).flat_map(|(p, id)| message(id, p)).collect();
            let mut inbox = Inbox::new(1 << 16);
            let mut got = vec![];
            for piece in stream.chunks(cut) {
                got.extend(feed(&mut inbox, piece, vec![]).into_iter().map(|(_, payload, _)| payload));
            }
            prop_assert_eq!(got, payloads);
        }

        #[test]
        fn any_stream_is_followed_or_refused(stream in proptest::collection::vec(any::<u8>(), 0..2000), cut in 1..64usize) {
            let mut inbox = Inbox::new(4096);
            for piece in stream.chunks(cut) {
                let Ok(space) = inbox.space() else { break };
                let n = piece.len().min(space.len());
                space[..n].copy_from_slice(&piece[..n]);
                inbox.filled(n, vec![]);
                while let Ok(Some(_)) = inbox.next_message() {}
            }
            prop_assert!(inbox.buffer.len() <= 2 * SMALL);
        }
    }
}
