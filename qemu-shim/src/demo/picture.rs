//! What is drawn: eight colour bars, a white box that bounces over them, and the frame number in binary along the lower
//! edge, so that a screenshot tells which frame it is. Everything is rectangles, and a picture depends on nothing but the
//! frame number and the mode.
//!
//! After [`FRAMES_PER_MODE`] frames comes the next mode, and the bars move on by one.

/// Frames before the next mode. Even, so that a mode starts on the page the one before it ended with.
pub(super) const FRAMES_PER_MODE: u32 = 12;

/// The modes in turn, smallest first: width and height in pixels.
pub(super) const MODES: [(u32, u32); 3] = [(640, 480), (800, 600), (1024, 768)];

/// Colour bars as test pictures have them: 75 % of white and of the six mixtures, brightest first, then near black.
pub(super) const BARS: [u32; 8] =
    [0x00bf_bfbf, 0x00bf_bf00, 0x0000_bfbf, 0x0000_bf00, 0x00bf_00bf, 0x00bf_0000, 0x0000_00bf, 0x0013_1313];

/// The bouncing box: side and steps per frame in pixels, and colour. No wider than a bar of any mode.
pub(super) const BOX_SIDE: u32 = 64;
pub(super) const BOX_STEP_X: u32 = 23;
pub(super) const BOX_STEP_Y: u32 = 14;
pub(super) const BOX_COLOUR: u32 = 0x00ff_ffff;

/// The strip below the bars: height in pixels, and colour.
pub(super) const STRIP_HEIGHT: u32 = 32;
pub(super) const STRIP_COLOUR: u32 = 0;

/// The frame number in the strip: 16 squares, the most significant bit first. Side, distance from one to the next,
/// distance from the left and from the top of the strip in pixels; colours of 0 and 1.
pub(super) const DIGITS: u32 = 16;
pub(super) const DIGIT_SIDE: u32 = 12;
pub(super) const DIGIT_PITCH: u32 = 20;
pub(super) const DIGIT_MARGIN: u32 = 10;
pub(super) const DIGIT_COLOURS: [u32; 2] = [0x0030_3030, 0x00ff_c000];

/// Whether a mode fits twice in so many bytes of VRAM: one page on screen, one to draw in.
pub(super) fn fits((width, height): (u32, u32), vram: u64) -> bool {
    2 * 4 * u64::from(width) * u64::from(height) <= vram
}

/// A filled rectangle; position and size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) colour: u32,
}

/// Frame `number` in a mode, from back to front. Together the rectangles cover the screen.
pub(super) fn picture(number: u32, (width, height): (u32, u32)) -> impl Iterator<Item = Rect> {
    let run = number / FRAMES_PER_MODE;
    let bar = width / 8;
    let bars_height = height - STRIP_HEIGHT;
    let colours = BARS.into_iter().cycle().skip((run % 8) as usize);
    let bars = (0..8).zip(colours).map(move |(i, colour)| Rect {
        x: i * bar,
        y: 0,
        width: bar,
        height: bars_height,
        colour,
    });
    let strip = Rect { x: 0, y: bars_height, width, height: STRIP_HEIGHT, colour: STRIP_COLOUR };
    let digits = (0..DIGITS).map(move |i| Rect {
        x: DIGIT_MARGIN + i * DIGIT_PITCH,
        y: bars_height + DIGIT_MARGIN,
        width: DIGIT_SIDE,
        height: DIGIT_SIDE,
        colour: DIGIT_COLOURS[(number >> (DIGITS - 1 - i) & 1) as usize],
    });
    let white_box = Rect {
        x: bounce(number.wrapping_mul(BOX_STEP_X), width - BOX_SIDE),
        y: bounce(number.wrapping_mul(BOX_STEP_Y), bars_height - BOX_SIDE),
        width: BOX_SIDE,
        height: BOX_SIDE,
        colour: BOX_COLOUR,
    };
    bars.chain([strip]).chain(digits).chain([white_box])
}

/// Where something that goes to and fro between 0 and `range` is after so many steps of 1.
fn bounce(steps: u32, range: u32) -> u32 {
    let at = steps % (2 * range);
    if at <= range { at } else { 2 * range - at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_on_screen_and_the_screen_is_covered() {
        for mode in MODES {
            for number in (0..2000).chain([u32::MAX]) {
                let area =
                    |rects: Vec<Rect>| -> u32 { rects.iter().map(|rect| rect.width * rect.height).sum() };
                assert!(
                    picture(number, mode)
                        .all(|rect| { rect.x + rect.width <= mode.0 && rect.y + rect.height <= mode.1 })
                );
                assert_eq!(area(picture(number, mode).take(9).collect()), mode.0 * mode.1);
            }
            assert!(BOX_SIDE <= mode.0 / 8, "the guest erases the box from at most two bars");
        }
    }

    #[test]
    fn bounces_between_the_walls() {
        let way: Vec<u32> = (0..8).map(|steps| bounce(steps, 3)).collect();
        assert_eq!(way, [0, 1, 2, 3, 2, 1, 0, 1]);
    }

    #[test]
    fn modes_ascend_and_need_two_pages() {
        assert!(MODES.is_sorted());
        assert!(fits((640, 480), 2400 << 10) && !fits((640, 480), (2400 << 10) - 1));
        let fitting = |vram: u64| MODES.into_iter().filter(|&mode| fits(mode, vram)).count();
        assert_eq!([2, 4, 8, 16].map(|mib| fitting(mib << 20)), [0, 2, 3, 3]);
    }
}
