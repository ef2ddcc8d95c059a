//! Guessing passwords, slowly.
//!
//! VNC passwords are short, so what protects them is how seldom one may try. Every wrong one makes the *next answer* to the
//! same peer, right or wrong and on whichever connection, wait longer; answers to one peer stand in one queue, so that many
//! connections at once are no faster than one. Nothing else of the peer is slowed, and no other peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Peers that are remembered, at most.
pub const MAX_PEERS: usize = 1024;

/// The longest distance of two answers.
pub const MAX_DELAY: Duration = Duration::from_secs(16);

/// A peer that stays quiet so long behind its last answer is forgotten.
pub const MEMORY: Duration = Duration::from_secs(600);

/// Whom answers go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Everyone on Unix sockets.
    Local,
    /// An address, or the 2⁶⁴ of IPv6 that one customer has.
    Address(IpAddr),
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Wrong passwords since the last right one.
    failures: u32,
    /// When the next answer may be sent.
    next: Instant,
}

/// The memory of wrong passwords.
#[derive(Debug, Default)]
pub struct Throttle {
    peers: HashMap<Peer, Record>,
    failures: u64,
}

impl Throttle {
    /// One that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A password was right: when to say so. The peer's failures are forgotten.
    pub fn right(&mut self, peer: Peer, now: Instant) -> Instant {
        let at = self.next(peer, now);
        if at <= now {
            self.peers.remove(&peer);
        } else if let Some(record) = self.peers.get_mut(&peer) {
            // Those who wait in the queue keep their places.
            record.failures = 0;
        }
        at
    }

    /// A password was wrong: when to say so. The answer behind it comes 1, 2, 4, 8, then 16 seconds later.
    pub fn wrong(&mut self, peer: Peer, now: Instant) -> Instant {
        let at = self.next(peer, now);
        let failures = self.failures(peer).saturating_add(1);
        let delay = Duration::from_secs(1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX));
        let next = at.checked_add(delay.min(MAX_DELAY)).unwrap_or(at);
        if !self.peers.contains_key(&peer) {
            self.make_room(now);
        }
        self.peers.insert(peer, Record { failures, next });
        self.failures = self.failures.saturating_add(1);
        at
    }

    /// How long an answer to this peer would have to wait. Where that is minutes, better refuse the connection.
    #[must_use]
    pub fn wait(&self, peer: Peer, now: Instant) -> Duration {
        self.next(peer, now).saturating_duration_since(now)
    }

    /// Wrong passwords of this peer since its last right one, as far as remembered.
    #[must_use]
    pub fn failures(&self, peer: Peer) -> u32 {
        self.peers.get(&peer).map_or(0, |record| record.failures)
    }

    /// Wrong passwords of everyone, ever.
    #[must_use]
    pub fn total_failures(&self) -> u64 {
        self.failures
    }

    fn next(&self, peer: Peer, now: Instant) -> Instant {
        self.peers.get(&peer).map_or(now, |record| record.next.max(now))
    }

    /// Forgets whoever was quiet; in a crowd, whoever has to wait least.
    fn make_room(&mut self, now: Instant) {
        self.peers.retain(|_, record| now.saturating_duration_since(record.next) < MEMORY);
        if self.peers.len() >= MAX_PEERS {
            let least = self.peers.iter().min_by_key(|(_, record)| (record.failures, record.next));
            if let Some(peer) = least.map(|(peer, _)| *peer) {
                self.peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(text: &str) -> Peer {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn each_wrong_password_makes_the_next_answer_later() {
        let (mut throttle, start) = (Throttle::new(), Instant::now());
        let mut now = start;
        for distance in [0, 1, 2, 4, 8, 16, 16, 16] {
            let at = throttle.wrong(Peer::Local, now);
            assert_eq!(at - now, SECOND * distance);
            now = at;
        }
        assert_eq!((throttle.failures(Peer::Local), throttle.total_failures()), (8, 8));
        assert_eq!(throttle.wait(Peer::Local, now), MAX_DELAY);
        assert_eq!(throttle.wait(peer("192.0.2.1"), now), Duration::ZERO, "others are not slowed");
    }

    #[test]
    fn connections_at_once_are_no_faster() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        let answers: Vec<_> = (0..6).map(|_| (throttle.wrong(Peer::Local, now) - now).as_secs()).collect();
        assert_eq!(answers, [0, 1, 3, 7, 15, 31]);
        assert_eq!(
            throttle.right(Peer::Local, now) - now,
            SECOND * 47,
            "a right one tells nothing by its time"
        );
    }

    #[test]
    fn a_right_password_does_not_let_those_who_wait_jump_the_queue() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        throttle.wrong(Peer::Local, now);
        throttle.wrong(Peer::Local, now);
        let turn = now + SECOND * 3;
        assert_eq!(throttle.right(Peer::Local, now), turn);
        assert_eq!(throttle.failures(Peer::Local), 0);
        assert_eq!(throttle.wrong(Peer::Local, now), turn, "behind those who came before");
        assert_eq!(throttle.wrong(Peer::Local, now), turn + SECOND, "and one failure is one second again");
    }

    #[test]
    fn a_right_password_and_a_long_time_make_good() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        throttle.wrong(Peer::Local, now);
        throttle.wrong(Peer::Local, now);
        let later = now + SECOND * 60;
        assert_eq!(throttle.right(Peer::Local, later), later);
        assert_eq!(throttle.failures(Peer::Local), 0);

        throttle.wrong(Peer::Local, later);
        throttle.wrong(peer("192.0.2.1"), later + MEMORY + SECOND * 2);
        assert_eq!(throttle.failures(Peer::Local), 0, "forgotten when the next one came");
        assert_eq!(throttle.total_failures(), 4);
    }

    #[test]
    fn a_crowd_takes_no_more_memory() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        throttle.wrong(Peer::Local, now);
        throttle.wrong(Peer::Local, now);
        for number in 0..u32::try_from(MAX_PEERS).unwrap() * 2 {
            throttle.wrong(IpAddr::V4(number.into()).into(), now);
        }
        assert_eq!(throttle.peers.len(), MAX_PEERS);
        assert_eq!(throttle.failures(Peer::Local), 2, "the worst are remembered");
    }

    #[test]
    fn a_subnet_is_one_peer() {
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::2"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}
