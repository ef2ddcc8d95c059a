//! A client's bytes, cut into messages.
//!
//! Bytes may come in any portions: the messages are the same. A message with a head of fixed size is read when the head is
//! there; one with a long tail is read piece by piece, keeping what is bounded (encodings, screens) and dropping the rest
//! (the clipboard, which can be 4 GiB long).

use super::bytes::take;
use super::message::{ClientMessage, Fence, MAX_ENCODINGS, MAX_FENCE_PAYLOAD, MessageError, Screen};
use crate::damage::Rect;
use crate::input::{Key, buttons};

/// Bytes that [`MessageParser::next`] may leave for the next call: all but one of the longest fence.
pub const MAX_UNREAD: usize = FENCE_HEAD + MAX_FENCE_PAYLOAD - 1;

/// Bytes of `ClientFence` before its payload, type included.
const FENCE_HEAD: usize = 9;

/// Bytes of a `SCREEN` (rfbproto "ExtendedDesktopSize").
const SCREEN_SIZE: usize = 16;

/// The message that is being read piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tail {
    Encodings { left: u16, kept: Vec<i32> },
    CutText { left: u32, length: u32 },
    Screens { left: u8, width: u16, height: u16, kept: Vec<Screen> },
}

/// Reads the messages of one client, from behind its `ClientInit`.
#[derive(Clone, Debug, Default)]
pub struct MessageParser {
    tail: Option<Tail>,
    extended_buttons: bool,
}

impl MessageParser {
    /// A parser at the beginning of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The client named [`EXTENDED_MOUSE_BUTTONS`](super::encodings::pseudo::EXTENDED_MOUSE_BUTTONS) and is told that the
    /// server knows them: from now on a pointer event may be a byte longer.
    pub fn enable_extended_buttons(&mut self) {
        self.extended_buttons = true;
    }

    /// The next message, read from the front of `input`; none if it is not all there. What is left there, at most
    /// [`MAX_UNREAD`] bytes in that case, comes again with more behind it.
    ///
    /// # Errors
    /// [`MessageError`]; it comes again at every further call with the same input.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<ClientMessage>, MessageError> {
        if self.tail.is_none() {
            match self.head(input)? {
                Some(Head::Whole(message)) => return Ok(Some(message)),
                Some(Head::Tail(tail)) => self.tail = Some(tail),
                None => return Ok(None),
            }
        }
        Ok(self.read_tail(input))
    }

    fn read_tail(&mut self, input: &mut &[u8]) -> Option<ClientMessage> {
        let done = match self.tail.as_mut()? {
            Tail::Encodings { left, kept } => read_encodings(input, left, kept),
            Tail::CutText { left, .. } => skip(input, left),
            Tail::Screens { left, kept, .. } => read_screens(input, left, kept),
        };
        if !done {
            return None;
        }
        Some(match self.tail.take()? {
            Tail::Encodings { kept, .. } => ClientMessage::SetEncodings(kept),
            Tail::CutText { length, .. } => ClientMessage::CutText { length },
            Tail::Screens { width, height, kept, .. } => {
                ClientMessage::SetDesktopSize { width, height, screens: kept }
            }
        })
    }

    /// Reads a message, or as much of it as has a fixed size.
    fn head(&self, input: &mut &[u8]) -> Result<Option<Head>, MessageError> {
        let Some(kind) = input.first() else { return Ok(None) };
        Ok(match kind {
            0 => take(input).map(|[_, _, _, _, format @ ..]: [u8; 20]| {
                Head::Whole(ClientMessage::SetPixelFormat(format))
            }),
            2 => take(input).map(|[_, _, a, b]| {
                Head::Tail(Tail::Encodings { left: u16::from_be_bytes([a, b]), kept: Vec::new() })
            }),
            3 => take(input).map(|[_, incremental, rect @ ..]: [u8; 10]| {
                let (incremental, rect) = (incremental != 0, rectangle(rect));
                Head::Whole(ClientMessage::FramebufferUpdateRequest { incremental, rect })
            }),
            4 => take(input).map(|[_, down, _, _, keysym @ ..]: [u8; 8]| {
                let key = Key { keysym: u32::from_be_bytes(keysym), scancode: None };
                Head::Whole(ClientMessage::Key { key, down: down != 0 })
            }),
            5 => self.pointer(input),
            6 => take(input).map(|[_, _, _, _, length @ ..]: [u8; 8]| {
                // Negative lengths are for clients that were told of the extended clipboard: none is.
                let length = u32::from_be_bytes(length);
                Head::Tail(Tail::CutText { left: length, length })
            }),
            150 => take(input).map(|[_, enable, rect @ ..]: [u8; 10]| {
                let (enable, rect) = (enable != 0, rectangle(rect));
                Head::Whole(ClientMessage::EnableContinuousUpdates { enable, rect })
            }),
            248 => fence(input)?,
            250 => take(input).map(|[_, _, version, code]| Head::Whole(ClientMessage::Xvp { version, code })),
            251 => take(input).map(|[_, _, a, b, c, d, left, _]| {
                let (width, height) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                Head::Tail(Tail::Screens { left, width, height, kept: Vec::new() })
            }),
            255 => qemu(input)?,
            kind => return Err(MessageError::UnknownType(*kind)),
        })
    }

    fn pointer(&self, input: &mut &[u8]) -> Option<Head> {
        let mask = *input.get(1)?;
        let extended = self.extended_buttons && mask & EXTENDED != 0;
        let ([_, _, x @ .., a, b], more): ([u8; 6], u8) = if extended {
            let [head @ .., more]: [u8; 7] = take(input)?;
            (head, more)
        } else {
            (take(input)?, 0)
        };
        let (x, y) = (u16::from_be_bytes(x), u16::from_be_bytes([a, b]));
        let low = if extended { mask & !EXTENDED } else { mask };
        let buttons = (u16::from(low) | u16::from(more) << EXTENDED_SHIFT) & buttons::ALL;
        Some(Head::Whole(ClientMessage::Pointer { x, y, buttons }))
    }
}

/// The bit of a button mask that says that another byte follows, and where the bits of that byte go (rfbproto
/// "PointerEvent"): "back" is the same bit in both.
const EXTENDED: u8 = 0x80;
const EXTENDED_SHIFT: u32 = 7;

/// What the front of the input is.
enum Head {
    Whole(ClientMessage),
    Tail(Tail),
}

fn fence(input: &mut &[u8]) -> Result<Option<Head>, MessageError> {
    let Some(([_, _, _, _, flags @ .., length], rest)) = input.split_first_chunk::<FENCE_HEAD>() else {
        return Ok(None);
    };
    if usize::from(*length) > MAX_FENCE_PAYLOAD {
        return Err(MessageError::FencePayload(*length));
    }
    let Some((payload, rest)) = rest.split_at_checked(usize::from(*length)) else { return Ok(None) };
    *input = rest;
    let fence = Fence { flags: u32::from_be_bytes(*flags), payload: payload.to_vec() };
    Ok(Some(Head::Whole(ClientMessage::Fence(fence))))
}

fn qemu(input: &mut &[u8]) -> Result<Option<Head>, MessageError> {
    match input.get(1) {
        None => Ok(None),
        Some(0) => Ok(take(input).map(|[_, _, d, e, a, b, c, f, scancode @ ..]: [u8; 12]| {
            let key = Key {
                keysym: u32::from_be_bytes([a, b, c, f]),
                scancode: Some(u32::from_be_bytes(scancode)),
            };
            Head::Whole(ClientMessage::Key { key, down: [d, e] != [0, 0] })
        })),
        Some(kind) => Err(MessageError::UnknownQemuMessage(*kind)),
    }
}

fn read_encodings(input: &mut &[u8], left: &mut u16, kept: &mut Vec<i32>) -> bool {
    while let Some(next) = left.checked_sub(1) {
        let Some(encoding) = take(input) else { return false };
        if kept.len() < MAX_ENCODINGS {
            kept.push(i32::from_be_bytes(encoding));
        }
        *left = next;
    }
    true
}

fn read_screens(input: &mut &[u8], left: &mut u8, kept: &mut Vec<Screen>) -> bool {
    while let Some(next) = left.checked_sub(1) {
        let Some(screen) = take::<SCREEN_SIZE>(input) else { return false };
        let [a, b, c, d, x, xx, y, yy, w, ww, h, hh, flags @ ..] = screen;
        kept.push(Screen {
            id: u32::from_be_bytes([a, b, c, d]),
            rect: rectangle([x, xx, y, yy, w, ww, h, hh]),
            flags: u32::from_be_bytes(flags),
        });
        *left = next;
    }
    true
}

/// Drops bytes that are of no interest.
fn skip(input: &mut &[u8], left: &mut u32) -> bool {
    let here = u32::try_from(input.len()).unwrap_or(u32::MAX).min(*left);
    *input = usize::try_from(here).ok().and_then(|here| input.get(here..)).unwrap_or_default();
    *left = left.saturating_sub(here);
    *left == 0
}

fn rectangle([x, xx, y, yy, w, ww, h, hh]: [u8; 8]) -> Rect {
    let number = |high, low| u32::from(u16::from_be_bytes([high, low]));
    Rect::new(number(x, xx), number(y, yy), number(w, ww), number(h, hh))
}

#[cfg(test)]
mod tests;
