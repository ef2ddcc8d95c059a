use proptest::prelude::*;

use super::*;

/// The messages in some bytes that come in portions of this size, and how it ended.
fn read(
    mut parser: MessageParser,
    bytes: &[u8],
    portion: usize,
) -> (Vec<ClientMessage>, Result<(), MessageError>) {
    let mut messages = Vec::new();
    let mut unread: Vec<u8> = Vec::new();
    for part in bytes.chunks(portion) {
        unread.extend(part);
        let mut input = unread.as_slice();
        loop {
            match parser.next(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
        assert!(input.len() <= MAX_UNREAD, "{} bytes left", input.len());
        unread = input.to_vec();
    }
    (messages, Ok(()))
}

#[track_caller]
fn one(bytes: &[u8]) -> ClientMessage {
    let (mut messages, end) = read(MessageParser::new(), bytes, 1);
    assert_eq!((messages.len(), end), (1, Ok(())));
    messages.remove(0)
}

#[track_caller]
fn error(bytes: &[u8]) -> MessageError {
    let (messages, end) = read(MessageParser::new(), bytes, 1);
    assert_eq!(messages, []);
    end.unwrap_err()
}

#[test]
fn short_messages() {
    let format = *b"0123456789abcdef";
    assert_eq!(one(&[&[0, 9, 9, 9], &format[..]].concat()), ClientMessage::SetPixelFormat(format));
    let rect = Rect::new(0x102, 0x304, 0x506, 0x708);
    assert_eq!(
        one(&[3, 1, 1, 2, 3, 4, 5, 6, 7, 8]),
        ClientMessage::FramebufferUpdateRequest { incremental: true, rect }
    );
    assert_eq!(
        one(&[150, 1, 1, 2, 3, 4, 5, 6, 7, 8]),
        ClientMessage::EnableContinuousUpdates { enable: true, rect }
    );
    let key = |keysym, scancode| Key { keysym, scancode };
    assert_eq!(
        one(&[4, 1, 0, 0, 0, 0, 0xff, 0x0d]),
        ClientMessage::Key { key: key(0xff0d, None), down: true }
    );
    assert_eq!(
        one(&[255, 0, 0, 1, 0, 0, 0xff, 0x53, 0, 0, 0, 0xcd]),
        ClientMessage::Key { key: key(0xff53, Some(0xcd)), down: true }
    );
    assert_eq!(
        one(&[255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ClientMessage::Key { key: key(0, Some(1)), down: false }
    );
    assert_eq!(one(&[5, 0x81, 1, 2, 3, 4]), ClientMessage::Pointer { x: 0x102, y: 0x304, buttons: 0x81 });
    assert_eq!(one(&[250, 0, 1, 2]), ClientMessage::Xvp { version: 1, code: 2 });
}

#[test]
fn a_longer_pointer_event_only_where_agreed() {
    let mut parser = MessageParser::new();
    parser.enable_extended_buttons();
    let (messages, end) = read(parser, &[5, 0x81, 0, 1, 0, 2, 0xff, 5, 0x01, 0, 3, 0, 4], 1);
    assert_eq!(end, Ok(()));
    let extended = buttons::LEFT | buttons::BACK | buttons::FORWARD;
    assert_eq!(
        messages,
        [
            ClientMessage::Pointer { x: 1, y: 2, buttons: extended },
            ClientMessage::Pointer { x: 3, y: 4, buttons: buttons::LEFT }
        ]
    );
}

#[test]
fn of_many_encodings_the_first_are_kept() {
    let list = |count: u16| {
        let numbers = (0..count).flat_map(|number| (-i32::from(number)).to_be_bytes());
        [2, 0].into_iter().chain(count.to_be_bytes()).chain(numbers).collect::<Vec<_>>()
    };
    assert_eq!(one(&list(0)), ClientMessage::SetEncodings(Vec::new()));
    assert_eq!(one(&list(3)), ClientMessage::SetEncodings(vec![0, -1, -2]));
    let ClientMessage::SetEncodings(kept) = one(&list(u16::MAX)) else { panic!("expected encodings") };
    assert_eq!((kept.len(), kept.last()), (MAX_ENCODINGS, Some(&-255)));
}

#[test]
fn screens_of_a_desktop() {
    let screen = |id: u8| [0, 0, 0, id, 0, 1, 0, 2, 3, 0, 4, 0, 0, 0, 0, 9];
    let head = |count| [251, 0, 0x07, 0x80, 0x04, 0x38, count, 0];
    let expected = |id| Screen { id, rect: Rect::new(1, 2, 0x300, 0x400), flags: 9 };
    for count in [0, 1, 255] {
        let screens = (1..=count).flat_map(screen);
        let bytes: Vec<_> = head(count).into_iter().chain(screens).collect();
        let screens = (1..=u32::from(count)).map(expected).collect();
        assert_eq!(one(&bytes), ClientMessage::SetDesktopSize { width: 1920, height: 1080, screens });
    }
}

#[test]
fn a_clipboard_of_four_gigabytes_passes_by() {
    let mut parser = MessageParser::new();
    assert_eq!(parser.next(&mut [6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff].as_slice()), Ok(None));
    let text = vec![b'x'; 1 << 20];
    let mut left = u64::from(u32::MAX);
    while left > 0 {
        let portion = usize::try_from(left).unwrap().min(text.len());
        let mut input = &text[..portion];
        left -= portion as u64;
        let expected = (left == 0).then_some(ClientMessage::CutText { length: u32::MAX });
        assert_eq!(parser.next(&mut input), Ok(expected));
        assert_eq!(input, [0; 0], "nothing is left, nothing is kept");
    }
    let mut next = [4, 0, 0, 0, 0, 0, 0, b'a'].as_slice();
    let key = Key { keysym: 0x61, scancode: None };
    assert_eq!(parser.next(&mut next), Ok(Some(ClientMessage::Key { key, down: false })));
}

#[test]
fn an_empty_clipboard_is_a_message_too() {
    assert_eq!(one(&[6, 0, 0, 0, 0, 0, 0, 0]), ClientMessage::CutText { length: 0 });
}

#[test]
fn fences_have_short_payloads() {
    let fence = |length: u8| {
        let head = [248, 0, 0, 0, 0x80, 0, 0, 1, length];
        head.into_iter().chain(std::iter::repeat_n(7, length.into())).collect::<Vec<_>>()
    };
    for length in [0, 64] {
        let expected = Fence { flags: 0x8000_0001, payload: vec![7; length.into()] };
        assert_eq!(one(&fence(length)), ClientMessage::Fence(expected));
    }
    assert_eq!(error(&fence(65)), MessageError::FencePayload(65));
}

#[test]
fn what_nobody_knows_the_length_of_is_the_end() {
    for kind in (0..=255).filter(|kind| ![0, 2, 3, 4, 5, 6, 150, 248, 250, 251, 255].contains(kind)) {
        assert_eq!(error(&[kind]), MessageError::UnknownType(kind));
    }
    assert_eq!(error(&[255, 1, 0, 0]), MessageError::UnknownQemuMessage(1));
    let mut parser = MessageParser::new();
    let mut input = [1, 2, 3].as_slice();
    for _ in 0..2 {
        assert_eq!(parser.next(&mut input), Err(MessageError::UnknownType(1)));
    }
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |length: std::ops::Range<usize>| prop::collection::vec(any::<u8>(), length);
    let of = move |kind: u8, length: usize| {
        bytes(length..length + 1).prop_map(move |rest| [vec![kind], rest].concat())
    };
    let encodings = prop::collection::vec(any::<i32>(), 0..600).prop_map(|list| {
        let count = u16::try_from(list.len()).unwrap().to_be_bytes();
        let list = list.into_iter().flat_map(i32::to_be_bytes);
        [2, 0].into_iter().chain(count).chain(list).collect()
    });
    let text = bytes(0..500).prop_map(|text| {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[6, 0, 0, 0], &length[..], &text].concat()
    });
    let fence = bytes(0..80).prop_map(|payload| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[248, 0, 0, 0, 1, 2, 3, 4, length], &payload[..]].concat()
    });
    let screens = (0..9_u8)
        .prop_map(|count| [vec![251, 0, 1, 2, 3, 4, count, 0], vec![5; 16 * usize::from(count)]].concat());
    prop_oneof![
        of(0, 19),
        of(3, 9),
        of(4, 7),
        of(5, 6),
        of(150, 9),
        of(250, 3),
        of(255, 11),
        encodings,
        text,
        fence,
        screens,
        bytes(0..30),
    ]
}

proptest! {
    #[test]
    fn any_portions_are_the_same(
        messages in prop::collection::vec(message(), 0..12),
        portion in 1_usize..700,
        extended: bool,
    ) {
        let mut parser = MessageParser::new();
        if extended {
            parser.enable_extended_buttons();
        }
        let bytes = messages.concat();
        let whole = read(parser.clone(), &bytes, usize::MAX);
        prop_assert_eq!(&whole, &read(parser.clone(), &bytes, portion));
        prop_assert_eq!(whole, read(parser, &bytes, 1));
    }
}
