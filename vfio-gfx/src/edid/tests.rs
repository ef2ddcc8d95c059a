//! Generator and parser against each other, and the parser against whatever comes.

mod details;
mod examples;
mod properties;

use super::parse;

/// Calls everything there is to call, so that a panic anywhere is found.
fn read_all(bytes: &[u8]) -> Option<usize> {
    let info = parse(bytes).ok()?;
    assert!(info.as_bytes().len() <= bytes.len() && (1..=256).contains(&info.blocks()));
    let shown = format!(
        "{info:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        info.version(),
        info.serial(),
        info.date(),
        info.is_digital(),
        info.is_srgb(),
        info.gamma(),
        info.size_mm(),
        info.serial_text(),
        info.range_limits(),
    );
    assert!(shown.is_ascii(), "{shown}");
    info.timings().for_each(|timing| {
        assert!(timing.h_total() > 0 && timing.v_total() > 0);
        assert!(!timing.mode().to_string().is_empty() && timing.line_rate_hz() > 0);
    });
    Some(info.modes().count() + info.vics().count() + info.extensions().count())
}
