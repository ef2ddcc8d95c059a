//! Of `edid_parse` and `edid_generate`.

use vfio_gfx::edid::{Config, Mode, generate};

use super::{number, numbers};

/// EDIDs of one to three blocks.
#[must_use]
pub fn edid_parse() -> Vec<Vec<u8>> {
    let with_cta = [(640, 480), (1366, 768), (2560, 1440), (7680, 4320)]
        .map(|(width, height)| Config::new(Mode::new(width, height)));
    let plain = Config { cta: false, ..Config::new(Mode::new(1024, 768)) };
    // A CTA block with a video data block, which ours do not have.
    let mut video = vec![0; 128];
    video[..9].copy_from_slice(&[2, 3, 9, 0, 0x44, 0x90, 4, 31, 200]);
    with_cta
        .iter()
        .chain([&plain])
        .filter_map(|config| generate(config).ok())
        .map(|edid| edid.as_bytes().to_vec())
        .map(|edid| if edid.len() == 128 { [&edid[..126], &[1, 0], &video].concat() } else { edid })
        .collect()
}

/// Displays to describe.
#[must_use]
pub fn edid_generate() -> Vec<Vec<u8>> {
    let rest = |name: &str| {
        let len = u8::try_from(name.len()).unwrap_or_default();
        [&[45, 0, 0, 1, 2, 3, 1, 0, len], name.as_bytes(), &[1, 42, 1]].concat()
    };
    let mode = |width, height| numbers(&[width, height]);
    vec![
        [mode(1024, 768), vec![1, 0], rest("Screen")].concat(),
        [mode(7680, 4320), vec![1, 0], rest("Large")].concat(),
        [mode(1920, 1080), vec![0], 144_000u32.to_le_bytes().to_vec(), vec![0], rest("Fast")].concat(),
        [mode(800, 600), vec![1, 1], mode(800, 600), rest("Bounded")].concat(),
        [mode(800, 600), vec![1, 2, 0], number(524_288), rest("Small VRAM")].concat(),
        [mode(1366, 768), vec![1, 4], mode(344, 194), rest("Panel")].concat(),
    ]
}
