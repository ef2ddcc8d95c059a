//! A viewer against a clock of the test's.

use super::*;

use crate::input::{InputError, Key, Pointer};
use crate::rfb::security::Password;

mod updates;

const SECOND: Duration = Duration::from_secs(1);
const CHALLENGE: [u8; 16] = *b"0123456789abcdef";

/// A guest that does not mind what is typed.
struct Patient;

impl InputSink for Patient {
    fn key(&mut self, _: Key, _: bool) -> Result<(), InputError> {
        Ok(())
    }
    fn pointer(&mut self, _: Pointer) -> Result<(), InputError> {
        Ok(())
    }
}

/// What is around a viewer.
struct Place {
    throttle: Throttle,
    now: Instant,
    /// Nobody may type.
    is_watched_only: bool,
}

impl Place {
    fn new() -> Self {
        Self { throttle: Throttle::new(), now: Instant::now(), is_watched_only: false }
    }

    fn viewer(&self, password: Option<&Password>) -> Viewer {
        let policy = Policy { password: password.cloned(), ..Policy::default() };
        Viewer::new(Peer::Local, policy, CHALLENGE, self.now)
    }

    /// One that has come in.
    fn guest(&mut self) -> Viewer {
        let mut viewer = self.viewer(None);
        self.hear(&mut viewer, b"RFB 003.008\n\x01\x01").unwrap();
        assert!(viewer.is_ready());
        sent(&mut viewer);
        viewer
    }

    fn hear(&mut self, viewer: &mut Viewer, bytes: &[u8]) -> Result<(), Goodbye> {
        let throttle = &mut self.throttle;
        let (screen, resize) = ((640, 480), None);
        let mut guest = Patient;
        let sink = (!self.is_watched_only).then_some(&mut guest as &mut dyn InputSink);
        let (now, name) = (self.now, "test");
        let mut room = Room { now, throttle, sink, screen, name, resize, is_active: false };
        viewer.receive(bytes, &mut room)
    }
}

/// Takes everything that is on its way to the viewer.
fn sent(viewer: &mut Viewer) -> Vec<u8> {
    let mut all = Vec::new();
    while !viewer.output().is_empty() {
        let front = viewer.output().front().to_vec();
        viewer.output_mut().consume(front.len());
        all.extend(front);
    }
    all
}

#[test]
fn who_does_not_come_in_within_two_minutes_goes() {
    let mut place = Place::new();
    let mut viewer = place.viewer(None);
    let end = place.now + SECOND * 120;
    assert_eq!(viewer.deadline(), Some(end));
    place.now = end - SECOND;
    place.hear(&mut viewer, b"RFB 003.008\n").unwrap();
    place.now = end;
    assert!(matches!(place.hear(&mut viewer, b""), Err(Goodbye::TooSlow)));
    assert!(viewer.is_leaving() && !viewer.wants_input() && viewer.deadline().is_none());

    let mut viewer = place.guest();
    place.now += SECOND * 10_000;
    place.hear(&mut viewer, b"").unwrap();
    assert_eq!(viewer.deadline(), None, "who is in may stay");
}

#[test]
fn answers_to_passwords_wait_their_turn_and_nothing_is_read_meanwhile() {
    let password = Password::new(b"geheim").unwrap();
    let right = password.response(CHALLENGE);
    for (response, result) in [([0; 16], 1), (right, 0)] {
        let mut place = Place::new();
        place.throttle.wrong(Peer::Local, place.now);
        let turn = place.now + SECOND;
        let mut viewer = place.viewer(Some(&password));
        place.hear(&mut viewer, b"RFB 003.008\n\x02").unwrap();
        assert!(sent(&mut viewer).ends_with(&CHALLENGE));
        place.hear(&mut viewer, &[&response[..], &[1]].concat()).unwrap();
        for wait in [Duration::ZERO, SECOND / 2] {
            place.now = turn - SECOND + wait;
            place.hear(&mut viewer, b"").unwrap();
            assert_eq!((viewer.deadline(), viewer.wants_input()), (Some(turn), false));
            assert_eq!(sent(&mut viewer), b"");
        }
        place.now = turn;
        let end = place.hear(&mut viewer, b"");
        assert_eq!(sent(&mut viewer)[..4], [0, 0, 0, result]);
        match end {
            Ok(()) => assert!(result == 0 && viewer.is_ready(), "it had said already that it comes in"),
            Err(error) => assert!(result == 1 && viewer.is_leaving(), "{error}"),
        }
    }
}

/// A browser that lost its way, or another program: its neighbours must not have to wait for that.
#[test]
fn who_is_refused_for_another_reason_has_guessed_no_password() {
    let password = Password::new(b"geheim").unwrap();
    let mut place = Place::new();
    for words in [&b"GET / HTTP/1.1\r\n"[..], b"RFB 009.000\n", b"RFB 003.008\n\x01"] {
        let mut viewer = place.viewer(Some(&password));
        assert!(matches!(place.hear(&mut viewer, words), Err(Goodbye::Handshake(_))));
        assert!(viewer.is_leaving(), "at once");
    }
    assert_eq!(place.throttle.total_failures(), 0);
    assert_eq!(place.throttle.wait(Peer::Local, place.now), Duration::ZERO);
}

#[test]
fn what_is_said_while_an_answer_waits_is_bounded() {
    let password = Password::new(b"geheim").unwrap();
    for (more, is_too_much) in [(MAX_UNREAD, false), (MAX_UNREAD + 1, true)] {
        let mut place = Place::new();
        place.throttle.wrong(Peer::Local, place.now);
        let mut viewer = place.viewer(Some(&password));
        place.hear(&mut viewer, b"RFB 003.008\n\x02").unwrap();
        let words = [&password.response(CHALLENGE)[..], &vec![0; more]].concat();
        let result = place.hear(&mut viewer, &words);
        assert_eq!(matches!(result, Err(Goodbye::Unread(_))), is_too_much, "{result:?}");
    }
}

#[test]
fn who_does_not_take_answers_is_not_listened_to() {
    let mut place = Place::new();
    let mut viewer = place.guest();
    let fence = [&[248, 0, 0, 0, 0x80, 0, 0, 0, 64][..], &[7; 64]].concat();
    let mut asked = 0;
    while viewer.wants_input() {
        place.hear(&mut viewer, &fence).unwrap();
        asked += fence.len();
        assert!(asked <= MAX_ANSWERS + fence.len(), "for ever");
    }
    assert_eq!(asked, MAX_ANSWERS.next_multiple_of(fence.len()));
    assert_eq!(sent(&mut viewer).len(), asked);
    assert!(viewer.wants_input(), "it has taken them");
}

#[test]
fn who_wants_the_machine_shut_down_is_told_that_we_cannot() {
    let mut place = Place::new();
    let mut viewer = place.guest();
    place.hear(&mut viewer, &[250, 0, 1, 2]).unwrap();
    assert_eq!(sent(&mut viewer), [250, 0, 1, 0]);
}

#[test]
fn who_wants_a_colour_map_is_sent_one() {
    let mut place = Place::new();
    let mut viewer = place.guest();
    place.hear(&mut viewer, &[0, 0, 0, 0, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let colours = sent(&mut viewer);
    assert_eq!((&colours[..6], colours.len()), (&[1, 0, 0, 0, 0, 216][..], 6 + 216 * 6));
}
