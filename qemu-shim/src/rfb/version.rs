//! Which of the three protocols a client speaks.
//!
//! They differ in their handshake only, and only three were ever published: every other number is a mistake that has a
//! known meaning (RFC 6143 §7.1.1).

/// Bytes of a `ProtocolVersion` message.
pub const VERSION_SIZE: usize = 12;

/// The server's `ProtocolVersion`: the highest that there is.
pub const SERVER_VERSION: &[u8; VERSION_SIZE] = b"RFB 003.008\n";

/// A published version, older ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 3.3: the server decides on the security type.
    V3_3,
    /// 3.7: the client chooses one.
    V3_7,
    /// 3.8: failures have a reason.
    V3_8,
}

/// What a `ProtocolVersion` message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// A version to go on with.
    Spoken(Version),
    /// Another major version: nothing is known of it.
    Foreign {
        /// Before the dot.
        major: u16,
        /// After the dot.
        minor: u16,
    },
    /// No such message at all.
    Garbage,
}

/// Reads a `ProtocolVersion` message.
#[must_use]
pub fn parse(message: [u8; VERSION_SIZE]) -> Announced {
    let [b'R', b'F', b'B', b' ', a, b, c, b'.', d, e, f, b'\n'] = message else {
        return Announced::Garbage;
    };
    match (number([a, b, c]), number([d, e, f])) {
        (Some(3), Some(7)) => Announced::Spoken(Version::V3_7),
        // Apple's Remote Desktop calls its 3.8 so.
        (Some(3), Some(8 | 889)) => Announced::Spoken(Version::V3_8),
        (Some(3), Some(_)) => Announced::Spoken(Version::V3_3),
        (Some(major), Some(minor)) => Announced::Foreign { major, minor },
        _ => Announced::Garbage,
    }
}

fn number(digits: [u8; 3]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_versions_and_their_misspellings() {
        let spoken = [
            (b"RFB 003.003\n", Version::V3_3),
            (b"RFB 003.005\n", Version::V3_3),
            (b"RFB 003.006\n", Version::V3_3),
            (b"RFB 003.999\n", Version::V3_3),
            (b"RFB 003.007\n", Version::V3_7),
            (b"RFB 003.008\n", Version::V3_8),
            (b"RFB 003.889\n", Version::V3_8),
        ];
        for (message, version) in spoken {
            assert_eq!(parse(*message), Announced::Spoken(version), "{}", message.escape_ascii());
        }
        assert_eq!(parse(*b"RFB 005.000\n"), Announced::Foreign { major: 5, minor: 0 });
        assert_eq!(parse(*b"RFB 002.002\n"), Announced::Foreign { major: 2, minor: 2 });
    }

    #[test]
    fn everything_else_is_no_version() {
        for message in
            [b"RFB 003.008\r", b"RFB 003,008\n", b"RFB 0x3.008\n", b"rfb 003.008\n", b"GET / HTTP/1"]
        {
            assert_eq!(parse(*message), Announced::Garbage, "{}", message.escape_ascii());
        }
        assert_eq!(parse([0; VERSION_SIZE]), Announced::Garbage);
    }
}
