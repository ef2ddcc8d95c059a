//! What a viewer is sent, read as a viewer would.

use crate::console::Update;
use crate::cursor::Cursor;
use crate::frame::Frame;
use crate::vnc::{Move, Pictures};

use super::*;

const COPY_RECT: i32 = 1;
const ZRLE: i32 = 16;
const DESKTOP_SIZE: i32 = -223;
const CURSOR: i32 = -239;
const EXTENDED_KEY: i32 = -258;
const DESKTOP_NAME: i32 = -307;
const EXTENDED_DESKTOP_SIZE: i32 = -308;
const CONTINUOUS_UPDATES: i32 = -313;
const CURSOR_WITH_ALPHA: i32 = -314;
const EXTENDED_BUTTONS: i32 = -316;

/// A screen, and what is new on it.
struct Screen {
    frame: Frame,
    damage: Damage,
    cursor: Option<Cursor>,
    cursor_changed: bool,
}

impl Screen {
    fn new(width: u32, height: u32) -> Self {
        let (frame, damage) = (Frame::new(width, height).unwrap(), Damage::new(width, height));
        Self { frame, damage, cursor: None, cursor_changed: false }
    }

    fn update(&self) -> Update<'_> {
        Update {
            frame: &self.frame,
            damage: &self.damage,
            resized: false,
            live: true,
            cursor: self.cursor.as_ref(),
            cursor_changed: self.cursor_changed,
            cursor_moved: false,
        }
    }

    /// What the viewer is sent when it asks for what is new.
    fn ask(&self, place: &mut Place, viewer: &mut Viewer) -> Vec<Got> {
        place.hear(viewer, &[3, 1, 0, 0, 0, 0, 2, 128, 1, 224]).unwrap();
        viewer.damage(&self.update(), None);
        viewer.picture(&self.update(), "name", &mut Pictures::default());
        rects(&sent(viewer))
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Got {
    place: [u16; 4],
    encoding: i32,
    payload: Vec<u8>,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:?}, {} bytes", self.encoding, self.place, self.payload.len())
    }
}

/// The rectangles of an update, of which there are as many as it says, and nothing behind them.
fn rects(bytes: &[u8]) -> Vec<Got> {
    let Some((head, mut rest)) = bytes.split_first_chunk::<4>() else { return Vec::new() };
    assert_eq!(head[0], 0, "an update");
    let count = u16::from_be_bytes([head[2], head[3]]);
    assert_ne!(count, 0, "an update of nothing");
    let got = (0..count).map(|_| {
        let (head, behind) = rest.split_first_chunk::<12>().unwrap();
        let place = [0, 2, 4, 6].map(|at| u16::from_be_bytes([head[at], head[at + 1]]));
        let encoding = i32::from_be_bytes(head[8..].try_into().unwrap());
        let (width, height) = (usize::from(place[2]), usize::from(place[3]));
        let length = match encoding {
            0 => 4 * width * height,
            COPY_RECT => 4,
            ZRLE | DESKTOP_NAME => 4 + u32::from_be_bytes(*behind.first_chunk().unwrap()) as usize,
            CURSOR => 4 * width * height + height * width.div_ceil(8),
            CURSOR_WITH_ALPHA => 4 + 4 * width * height,
            EXTENDED_DESKTOP_SIZE => 4 + 16 * usize::from(behind[0]),
            DESKTOP_SIZE | EXTENDED_KEY | EXTENDED_BUTTONS => 0,
            other => panic!("encoding {other}"),
        };
        let (payload, behind) = behind.split_at(length);
        rest = behind;
        Got { place, encoding, payload: payload.to_vec() }
    });
    let got: Vec<Got> = got.collect();
    assert!(rest.is_empty(), "{} bytes behind {got:?}", rest.len());
    got
}

fn kinds(got: &[Got]) -> Vec<i32> {
    got.iter().map(|got| got.encoding).collect()
}

fn encodings(list: &[i32]) -> Vec<u8> {
    let count = u16::try_from(list.len()).unwrap().to_be_bytes();
    [2, 0].into_iter().chain(count).chain(list.iter().flat_map(|encoding| encoding.to_be_bytes())).collect()
}

/// A viewer that has seen the whole of a black screen of 640x480.
fn viewer(place: &mut Place, list: &[i32]) -> (Viewer, Screen) {
    let (mut viewer, screen) = (place.guest(), Screen::new(640, 480));
    place.hear(&mut viewer, &encodings(list)).unwrap();
    sent(&mut viewer);
    screen.ask(place, &mut viewer);
    (viewer, screen)
}

#[test]
fn who_can_do_everything_is_told_everything_once() {
    let mut place = Place::new();
    let (mut viewer, screen) = (place.guest(), Screen::new(640, 480));
    let all = [EXTENDED_DESKTOP_SIZE, EXTENDED_KEY, EXTENDED_BUTTONS, DESKTOP_NAME, CURSOR, 0];
    place.hear(&mut viewer, &encodings(&all)).unwrap();
    let got = screen.ask(&mut place, &mut viewer);
    assert_eq!(kinds(&got), all);
    assert_eq!(got[0].place, [0, 0, 640, 480]);
    assert_eq!(
        got[0].payload,
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 128, 1, 224, 0, 0, 0, 0],
        "one monitor"
    );
    assert_eq!(got[3].payload, b"\0\0\0\x04name");
    assert_eq!(got[5].place, [0, 0, 640, 480]);
    assert_eq!(screen.ask(&mut place, &mut viewer), [], "and then nothing");

    let mut screen = screen;
    screen.damage.add(Rect::new(33, 1, 1, 1));
    let got = screen.ask(&mut place, &mut viewer);
    assert_eq!((kinds(&got), got[0].place), (vec![0], [32, 0, 32, 32]), "the tile that changed");
}

#[test]
fn each_news_is_told_without_the_others() {
    let mut place = Place::new();
    let base = [0, DESKTOP_NAME, EXTENDED_DESKTOP_SIZE, CURSOR];
    let (mut viewer, mut screen) = viewer(&mut place, &base);
    viewer.rename();
    assert_eq!(kinds(&screen.ask(&mut place, &mut viewer)), [DESKTOP_NAME]);
    viewer.answer_resize(Status::Prohibited);
    let got = screen.ask(&mut place, &mut viewer);
    assert_eq!((kinds(&got), got[0].place), (vec![EXTENDED_DESKTOP_SIZE], [1, 1, 640, 480]));
    for more in [EXTENDED_KEY, EXTENDED_BUTTONS] {
        place.hear(&mut viewer, &encodings(&[&base[..], &[more]].concat())).unwrap();
        assert_eq!(kinds(&screen.ask(&mut place, &mut viewer)), [more]);
    }
    let pixels = vec![0xff12_3456; 6];
    screen.cursor = Some(Cursor { width: 3, height: 2, pixels, ..Cursor::default() });
    screen.cursor_changed = true;
    let got = screen.ask(&mut place, &mut viewer);
    assert_eq!((kinds(&got), got[0].place), (vec![CURSOR], [0, 0, 3, 2]));
    screen.cursor_changed = false;
    assert_eq!(screen.ask(&mut place, &mut viewer), []);
    // In another format it is another picture.
    place.hear(&mut viewer, &[0, 0, 0, 0, 32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]).unwrap();
    assert_eq!(screen.ask(&mut place, &mut viewer)[0].payload[..4], [0, 0x12, 0x34, 0x56]);
}

#[test]
fn who_says_the_same_again_is_told_nothing_new() {
    let mut place = Place::new();
    for list in [
        &[0, COPY_RECT][..],
        &[0, CURSOR],
        &[0, CURSOR_WITH_ALPHA],
        &[0, CURSOR, EXTENDED_KEY, EXTENDED_BUTTONS, DESKTOP_NAME, EXTENDED_DESKTOP_SIZE, CONTINUOUS_UPDATES],
    ] {
        let (mut viewer, screen) = viewer(&mut place, list);
        place.hear(&mut viewer, &encodings(list)).unwrap();
        assert_eq!(screen.ask(&mut place, &mut viewer), [], "{list:?}");
    }
    // Another format is news only to who draws a cursor in it.
    let (mut viewer, screen) = viewer(&mut place, &[0]);
    place.hear(&mut viewer, &[0, 0, 0, 0, 32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]).unwrap();
    assert_eq!(screen.ask(&mut place, &mut viewer), []);
}

#[test]
fn who_knows_continuous_updates_is_told_that_we_do_and_when_they_end() {
    let mut place = Place::new();
    let mut viewer = place.guest();
    place.hear(&mut viewer, &encodings(&[0, CONTINUOUS_UPDATES])).unwrap();
    assert_eq!(sent(&mut viewer), [150]);
    for (enable, answer) in [(1, &[][..]), (1, &[]), (0, &[150]), (0, &[])] {
        place.hear(&mut viewer, &[150, enable, 0, 0, 0, 0, 2, 128, 1, 224]).unwrap();
        assert_eq!(sent(&mut viewer), answer);
    }
}

/// Where nobody may type, no key is explained, and a viewer that draws the pointer would draw its own.
#[test]
fn who_only_looks_is_told_nothing_about_keys_and_pointers() {
    let mut place = Place::new();
    place.is_watched_only = true;
    let (mut viewer, mut screen) = (place.guest(), Screen::new(640, 480));
    place.hear(&mut viewer, &encodings(&[0, EXTENDED_KEY, CURSOR])).unwrap();
    assert_eq!(kinds(&screen.ask(&mut place, &mut viewer)), [0]);
    screen.cursor_changed = true;
    assert_eq!(screen.ask(&mut place, &mut viewer), []);
    assert!(!viewer.draws_cursor());
}

/// Rows that moved by 32, in a screen that is new below them.
fn scroll(screen: &mut Screen) -> Move {
    screen.damage.add_all();
    Move { to: Rect::new(0, 0, 640, 448), from_y: 32 }
}

#[test]
fn rows_that_moved_are_copied_by_who_can_and_has_them() {
    let mut place = Place::new();
    let whole = [3, 1, 0, 0, 0, 0, 2, 128, 1, 224];
    let part = [3, 1, 0, 0, 0, 0, 2, 128, 0, 224];
    for (list, request, is_behind, expected) in [
        (&[0, COPY_RECT][..], whole, false, &[COPY_RECT, 0][..]),
        (&[0], whole, false, &[0]),
        (&[0, COPY_RECT], part, false, &[0]),
        (&[0, COPY_RECT], whole, true, &[0]),
    ] {
        let (mut viewer, mut screen) = viewer(&mut place, list);
        if is_behind {
            let mut before = Screen::new(640, 480);
            before.damage.add(Rect::new(0, 0, 1, 1));
            viewer.damage(&before.update(), None);
        }
        place.hear(&mut viewer, &request).unwrap();
        let moved = scroll(&mut screen);
        viewer.damage(&screen.update(), Some(moved));
        viewer.picture(&screen.update(), "name", &mut Pictures::default());
        let got = rects(&sent(&mut viewer));
        assert_eq!(kinds(&got), expected, "{list:?} {request:?} {is_behind}");
        if expected[0] == COPY_RECT {
            assert_eq!((got[0].place, &got[0].payload[..]), ([0, 0, 640, 448], &[0, 0, 0, 32][..]));
            assert_eq!(got[1].place, [0, 448, 640, 32], "what is new");
        }
    }
}

/// The corner that fits is all that it ever sees.
#[test]
fn who_cannot_be_told_of_another_size_is_sent_what_changes() {
    let mut place = Place::new();
    let (mut viewer, _) = viewer(&mut place, &[0]);
    let mut larger = Screen::new(800, 600);
    assert_eq!(larger.ask(&mut place, &mut viewer), [], "nothing changed");
    larger.damage.add(Rect::new(0, 0, 1, 1));
    assert_eq!(larger.ask(&mut place, &mut viewer)[0].place, [0, 0, 640, 480]);
    larger.damage.clear();
    let update = Update { resized: true, ..larger.update() };
    viewer.damage(&update, None);
    assert_eq!(larger.ask(&mut place, &mut viewer)[0].place, [0, 0, 640, 480]);
}

#[test]
fn a_cursor_goes_to_who_draws_it_in_the_way_he_can() {
    let mut place = Place::new();
    for (list, expected) in [
        (&[0, CURSOR][..], &[CURSOR][..]),
        (&[0, CURSOR_WITH_ALPHA], &[CURSOR_WITH_ALPHA]),
        (&[0, CURSOR, CURSOR_WITH_ALPHA], &[CURSOR_WITH_ALPHA]),
        (&[0], &[]),
    ] {
        let (mut viewer, mut screen) = viewer(&mut place, list);
        screen.cursor_changed = true;
        assert_eq!(kinds(&screen.ask(&mut place, &mut viewer)), expected, "{list:?}");
    }
}

#[test]
fn another_size_is_told_in_the_way_he_can_and_then_shown_whole() {
    let mut place = Place::new();
    for kind in [DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE] {
        let (mut viewer, _) = viewer(&mut place, &[0, kind]);
        let got = Screen::new(320, 200).ask(&mut place, &mut viewer);
        assert_eq!(kinds(&got), [kind, 0]);
        assert_eq!((got[0].place, got[1].place), ([0, 0, 320, 200], [0, 0, 320, 200]));
    }
}

#[test]
fn pixels_come_in_the_encoding_he_likes_best() {
    let mut place = Place::new();
    for (list, expected) in [(&[COPY_RECT, ZRLE, 0][..], ZRLE), (&[0, ZRLE], 0), (&[], 0)] {
        let mut viewer = place.guest();
        place.hear(&mut viewer, &encodings(list)).unwrap();
        assert_eq!(kinds(&Screen::new(640, 480).ask(&mut place, &mut viewer)), [expected], "{list:?}");
    }
}

#[test]
fn who_has_not_taken_the_last_picture_is_not_sent_another() {
    let mut place = Place::new();
    let (mut viewer, mut screen) = viewer(&mut place, &[0]);
    screen.damage.add_all();
    for _ in 0..3 {
        place.hear(&mut viewer, &[3, 0, 0, 0, 0, 0, 2, 128, 1, 224]).unwrap();
        viewer.damage(&screen.update(), None);
        viewer.picture(&screen.update(), "name", &mut Pictures::default());
    }
    assert_eq!(rects(&sent(&mut viewer)).len(), 1);
    viewer.picture(&screen.update(), "name", &mut Pictures::default());
    assert_eq!(rects(&sent(&mut viewer)).len(), 1, "what he asked for meanwhile");
}

#[test]
fn who_asks_for_a_part_gets_that_part_and_the_rest_when_he_asks_for_it() {
    let mut place = Place::new();
    let (mut viewer, mut screen) = viewer(&mut place, &[0]);
    screen.damage.add_all();
    viewer.damage(&screen.update(), None);
    place.hear(&mut viewer, &[3, 1, 0, 64, 0, 32, 0, 32, 0, 32]).unwrap();
    viewer.picture(&screen.update(), "name", &mut Pictures::default());
    let got = rects(&sent(&mut viewer));
    assert_eq!((got.len(), got[0].place), (1, [64, 32, 32, 32]));
    // Two questions before an answer are one for what holds both.
    for x in [96, 160] {
        place.hear(&mut viewer, &[3, 1, 0, x, 0, 32, 0, 32, 0, 32]).unwrap();
    }
    viewer.picture(&screen.update(), "name", &mut Pictures::default());
    let got = rects(&sent(&mut viewer));
    assert_eq!((got.len(), got[0].place), (1, [96, 32, 96, 32]));
}
