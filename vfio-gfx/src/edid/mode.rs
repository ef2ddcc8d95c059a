//! A mode (what a user asks for) and a timing (what a display has to do to show it).

/// A picture size and the rate at which it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mode {
    /// Visible pixels per line.
    pub width: u32,
    /// Visible lines.
    pub height: u32,
    /// Refresh rate in millihertz; the field rate if the mode is interlaced.
    pub refresh_mhz: u32,
}

impl Mode {
    /// A mode of this many pixels at 60 Hz.
    #[must_use]
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height, refresh_mhz: 60_000 }
    }

    /// Pixels in one picture.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        u64::from(self.width).saturating_mul(u64::from(self.height))
    }
}

impl std::fmt::Display for Mode {
    /// As in `1366x768@59.998`, in hertz.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hz, fraction) = (self.refresh_mhz / 1000, self.refresh_mhz % 1000);
        write!(f, "{}x{}@{hz}", self.width, self.height)?;
        if fraction == 0 { Ok(()) } else { write!(f, ".{fraction:03}") }
    }
}

/// A detailed timing. Horizontal numbers are in pixels, vertical ones in lines (of one field, if
/// interlaced). Front porch and sync pulse lie inside the blanking; what is left of it is the back porch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Pixel clock in kHz.
    pub clock_khz: u32,
    /// Visible pixels per line.
    pub h_active: u32,
    /// Pixels per line that are not visible.
    pub h_blank: u32,
    /// Pixels between the last visible one and the sync pulse.
    pub h_front: u32,
    /// Length of the horizontal sync pulse.
    pub h_sync: u32,
    /// Visible lines.
    pub v_active: u32,
    /// Lines that are not visible.
    pub v_blank: u32,
    /// Lines between the last visible one and the sync pulse.
    pub v_front: u32,
    /// Length of the vertical sync pulse.
    pub v_sync: u32,
    /// The horizontal sync pulse is positive.
    pub h_positive: bool,
    /// The vertical sync pulse is positive.
    pub v_positive: bool,
    /// The picture is sent as two fields.
    pub interlaced: bool,
    /// Width and height of the picture on the screen in millimetres, where the timing says.
    pub size_mm: Option<(u32, u32)>,
}

impl Timing {
    /// Pixels per line, visible or not.
    #[must_use]
    pub fn h_total(&self) -> u32 {
        self.h_active.saturating_add(self.h_blank)
    }

    /// Lines per field, visible or not.
    #[must_use]
    pub fn v_total(&self) -> u32 {
        self.v_active.saturating_add(self.v_blank)
    }

    /// Refresh rate in millihertz (field rate if interlaced), rounded to nearest; 0 if the totals are 0.
    #[must_use]
    pub fn refresh_mhz(&self) -> u32 {
        // an interlaced field is half a line longer than its whole lines
        let half_lines = u64::from(self.v_total()).saturating_mul(2).saturating_add(self.interlaced.into());
        let total = u64::from(self.h_total()).saturating_mul(half_lines);
        let scaled = u64::from(self.clock_khz).saturating_mul(2_000_000);
        let rounded = scaled.saturating_add(total / 2).checked_div(total).unwrap_or(0);
        u32::try_from(rounded).unwrap_or(u32::MAX)
    }

    /// Line rate in hertz, rounded down; 0 if the line is empty.
    #[must_use]
    pub fn line_rate_hz(&self) -> u64 {
        let clock = u64::from(self.clock_khz).saturating_mul(1000);
        clock.checked_div(u64::from(self.h_total())).unwrap_or(0)
    }

    /// The mode this timing shows.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let fields = if self.interlaced { 2 } else { 1 };
        Mode {
            width: self.h_active,
            height: self.v_active.saturating_mul(fields),
            refresh_mhz: self.refresh_mhz(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_show_their_rate() {
        assert_eq!(Mode::new(1024, 768).to_string(), "1024x768@60");
        assert_eq!(Mode { refresh_mhz: 59_094, ..Mode::new(640, 480) }.to_string(), "640x480@59.094");
    }

    /// 1920x1080 at 60 fields a second, as CTA-861-G has it (VIC 5).
    #[test]
    fn interlaced_fields_make_one_picture() {
        let timing = Timing {
            clock_khz: 74_250,
            h_active: 1920,
            h_blank: 280,
            h_front: 88,
            h_sync: 44,
            v_active: 540,
            v_blank: 22,
            v_front: 2,
            v_sync: 5,
            h_positive: true,
            v_positive: true,
            interlaced: true,
            size_mm: None,
        };
        assert_eq!(timing.mode(), Mode::new(1920, 1080));
        assert_eq!(timing.line_rate_hz(), 33_750);
    }
}
