//! When a display was made.

/// Base block bytes 0x10 and 0x11.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Date {
    /// Year of manufacture; the week is not told.
    Year(u16),
    /// Week 1 to 54 of the year of manufacture.
    Week {
        /// Week of the year, 1 to 54.
        week: u8,
        /// Year, 1990 to 2245.
        year: u16,
    },
    /// The model's year, rather than this specimen's.
    ModelYear(u16),
}

/// The year that the base block counts from (E-EDID 3.4.4).
pub(super) const EPOCH: u16 = 1990;
/// The year that DisplayID counts from (DisplayID 1.3).
pub(super) const DISPLAY_ID_EPOCH: u16 = 2000;
/// The week that says "the year is the model's".
const MODEL_YEAR: u8 = 0xff;

impl Date {
    /// The year, whatever it is the year of.
    #[must_use]
    pub fn year(&self) -> u16 {
        match *self {
            Self::Year(year) | Self::Week { year, .. } | Self::ModelYear(year) => year,
        }
    }

    /// Week and year bytes, the year counted from `epoch`, or `None` if one of them is out of range.
    pub(super) fn encode(self, epoch: u16) -> Option<[u8; 2]> {
        let week = match self {
            Self::Year(_) => 0,
            Self::Week { week, .. } if (1..=54).contains(&week) => week,
            Self::Week { .. } => return None,
            Self::ModelYear(_) => MODEL_YEAR,
        };
        let year = u8::try_from(self.year().checked_sub(epoch)?).ok()?;
        Some([week, year])
    }

    /// Reads the two bytes. Weeks the standard does not define are read as "not told".
    pub(super) fn decode(week: u8, year: u8) -> Self {
        let year = u16::from(year).saturating_add(EPOCH);
        match week {
            MODEL_YEAR => Self::ModelYear(year),
            1..=54 => Self::Week { week, year },
            _ => Self::Year(year),
        }
    }
}
