//! A conversation with QEMU's monitor, without the socket.
//!
//! QEMU greets, is asked for its capabilities, and then takes one command after the other, here one at a time: while it
//! thinks, input collapses in our queue and not in its socket. Events that it tells of in between are of no interest.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use thiserror::Error;

use crate::input::buttons;
use crate::input::queue::Event;

/// Bytes of a line that are kept, at most. QEMU's greeting is under 1 KiB, an answer to us under 200 bytes.
pub(super) const MAX_LINE: usize = 1 << 16;

/// Names of buttons (QEMU's `InputButton`).
const BUTTONS: [(u16, &str); 9] = [
    (buttons::LEFT, "left"),
    (buttons::MIDDLE, "middle"),
    (buttons::RIGHT, "right"),
    (buttons::WHEEL_UP, "wheel-up"),
    (buttons::WHEEL_DOWN, "wheel-down"),
    (buttons::WHEEL_LEFT, "wheel-left"),
    (buttons::WHEEL_RIGHT, "wheel-right"),
    (buttons::BACK, "side"),
    (buttons::FORWARD, "extra"),
];

/// Why a conversation cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum SessionError {
    #[error("expected lines of at most {MAX_LINE} bytes, found a longer one: it is no QMP socket")]
    LongLine,
    #[error("expected a line of QMP, found {0:?}: it is no QMP socket")]
    NotQmp(String),
    #[error("expected QMP's capabilities to be taken, found {0}")]
    Capabilities(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Capabilities,
    Idle,
    /// A command was sent.
    Waiting,
}

/// A conversation.
#[derive(Debug)]
pub(super) struct Session {
    state: State,
    line: Vec<u8>,
}

/// A line from QEMU (its `docs/interop/qmp-spec`).
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<IgnoredAny>,
    #[serde(rename = "return")]
    success: Option<IgnoredAny>,
    error: Option<Failure>,
    event: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    desc: String,
}

impl Session {
    pub(super) fn new() -> Self {
        Self { state: State::Greeting, line: Vec::new() }
    }

    /// Whether QEMU has nothing to answer, and takes commands.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Whether QEMU has agreed to talk.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Idle | State::Waiting)
    }

    /// Hears what QEMU says, and puts what there is to say to that into `out`. Returns the last refusal of a command.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<String>, SessionError> {
        let mut refusal = None;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len().saturating_add(part.len()) > MAX_LINE {
                return Err(SessionError::LongLine);
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                refusal = self.hear(&line, out)?.or(refusal);
            }
        }
        Ok(refusal)
    }

    fn hear(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Option<String>, SessionError> {
        let not_qmp = || SessionError::NotQmp(line.escape_ascii().take(80).map(char::from).collect());
        let said: Line = serde_json::from_slice(line).map_err(|_| not_qmp())?;
        if said.event.is_some() {
            return Ok(None);
        }
        match (self.state, said) {
            (State::Greeting, Line { greeting: Some(_), .. }) => {
                out.extend_from_slice(b"{\"execute\":\"qmp_capabilities\"}\n");
                self.state = State::Capabilities;
                Ok(None)
            }
            (State::Capabilities, Line { error: Some(failure), .. }) => {
                Err(SessionError::Capabilities(failure.desc))
            }
            (State::Waiting, Line { error: Some(failure), .. }) => {
                self.state = State::Idle;
                Ok(Some(failure.desc))
            }
            (State::Capabilities | State::Waiting, Line { success: Some(_), .. }) => {
                self.state = State::Idle;
                Ok(None)
            }
            _ => Err(not_qmp()),
        }
    }

    /// The command that makes an event happen. Only to be asked for when QEMU [`is_idle`](Self::is_idle).
    pub(super) fn command(&mut self, event: Event) -> Vec<u8> {
        self.state = State::Waiting;
        let events = match event {
            // QEMU's numbers are scan codes; its keymaps say the same of every key that has a name.
            Event::Stroke(stroke) => vec![json!({
                "type": "key",
                "data": { "key": { "type": "number", "data": stroke.code }, "down": stroke.down },
            })],
            Event::Motion(motion) => {
                let (x, y) = motion.position;
                let axis = |axis, value| json!({ "type": "abs", "data": { "axis": axis, "value": value } });
                let changed = BUTTONS.iter().filter(|(bit, _)| motion.changed & bit != 0);
                let buttons = changed.map(|(bit, name)| {
                    json!({ "type": "btn", "data": { "button": name, "down": motion.down & bit != 0 } })
                });
                [axis("x", x), axis("y", y)].into_iter().chain(buttons).collect::<Vec<Value>>()
            }
        };
        let command = json!({ "execute": "input-send-event", "arguments": { "events": events } });
        format!("{command}\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::input::keyboard::Stroke;
    use crate::input::mouse::Motion;

    const GREETING: &str =
        "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10}}, \"capabilities\": [\"oob\"]}}\r\n";
    const DONE: &str = "{\"return\": {}}\r\n";
    const STROKE: Event = Event::Stroke(Stroke { code: 0xcd, down: true });

    fn open() -> Session {
        let (mut session, mut out) = (Session::new(), Vec::new());
        assert_eq!(session.feed(GREETING.as_bytes(), &mut out), Ok(None));
        assert_eq!(out, b"{\"execute\":\"qmp_capabilities\"}\n");
        assert!(!session.is_idle() && !session.is_open());
        assert_eq!(session.feed(DONE.as_bytes(), &mut out), Ok(None));
        assert!(session.is_idle() && session.is_open());
        session
    }

    fn events(command: &[u8]) -> Value {
        let command: Value = serde_json::from_slice(command).unwrap();
        assert_eq!(command["execute"], "input-send-event");
        command["arguments"]["events"].clone()
    }

    #[test]
    fn one_command_at_a_time() {
        let mut session = open();
        let key =
            json!([{ "type": "key", "data": { "key": { "type": "number", "data": 0xcd }, "down": true } }]);
        assert_eq!(events(&session.command(STROKE)), key);
        assert!(!session.is_idle());
        let event = "{\"timestamp\": {\"seconds\": 1}, \"event\": \"RESUME\"}\r\n";
        assert_eq!(session.feed(event.as_bytes(), &mut Vec::new()), Ok(None));
        assert!(!session.is_idle(), "an event is no answer");
        assert_eq!(session.feed(DONE.as_bytes(), &mut Vec::new()), Ok(None));
        assert!(session.is_idle());
    }

    #[test]
    fn a_pointer_is_two_axes_and_the_buttons_that_changed() {
        let down = buttons::LEFT | buttons::WHEEL_DOWN;
        let motion = Motion { position: (1, 0x7fff), down, changed: down | buttons::BACK };
        let expected = json!([
            { "type": "abs", "data": { "axis": "x", "value": 1 } },
            { "type": "abs", "data": { "axis": "y", "value": 0x7fff } },
            { "type": "btn", "data": { "button": "left", "down": true } },
            { "type": "btn", "data": { "button": "wheel-down", "down": true } },
            { "type": "btn", "data": { "button": "side", "down": false } },
        ]);
        assert_eq!(events(&open().command(Event::Motion(motion))), expected);
    }

    #[test]
    fn a_refusal_is_told_and_the_next_command_may_come() {
        let mut session = open();
        session.command(STROKE);
        let error = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no handler\"}}\r\n";
        assert_eq!(session.feed(error.as_bytes(), &mut Vec::new()), Ok(Some("no handler".to_owned())));
        assert!(session.is_idle());
    }

    #[test]
    fn what_is_no_qmp_is_said_so() {
        let first = |bytes: &[u8]| Session::new().feed(bytes, &mut Vec::new());
        assert!(matches!(first(b"SSH-2.0-x\r\n"), Err(SessionError::NotQmp(_))));
        assert!(
            matches!(first(DONE.as_bytes()), Err(SessionError::NotQmp(_))),
            "an answer without a question"
        );
        assert!(matches!(first(&[b'['; MAX_LINE]), Ok(None)));
        assert_eq!(first(&[b'['; MAX_LINE + 1]), Err(SessionError::LongLine));
        let deep = [vec![b'['; MAX_LINE - 1], vec![b'\n']].concat();
        assert!(matches!(first(&deep), Err(SessionError::NotQmp(_))), "deep nesting is no trouble");
        let error = b"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"capabilities mode\"}}\n";
        let mut session = Session::new();
        session.feed(GREETING.as_bytes(), &mut Vec::new()).unwrap();
        let expected = SessionError::Capabilities("capabilities mode".to_owned());
        assert_eq!(session.feed(error, &mut Vec::new()), Err(expected));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_portions(bytes: Vec<u8>, greeted: bool, at in 0_usize..64) {
            let start = || if greeted { open() } else { Session::new() };
            let (mut whole, mut parts) = (start(), start());
            let (mut out, mut out_parts) = (Vec::new(), Vec::new());
            let expected = whole.feed(&bytes, &mut out);
            let (head, tail) = bytes.split_at(at.min(bytes.len()));
            let head = parts.feed(head, &mut out_parts);
            let found = match head {
                Ok(first) => parts.feed(tail, &mut out_parts).map(|second| second.or(first)),
                failed => failed,
            };
            prop_assert_eq!(expected, found);
            prop_assert_eq!(out, out_parts);
        }
    }
}
