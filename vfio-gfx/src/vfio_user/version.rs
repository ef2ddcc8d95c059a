//! `VFIO_USER_VERSION`: who is there, and what both sides can do.

use serde_json::{Map, Value};
use thiserror::Error;

use super::{MAX_DATA_XFER, MAX_DMA_MAPS, MAX_MSG_FDS};
use crate::abi::Errno;
use crate::memory::PAGE_SIZE;
use crate::number::to_u64;

/// The major version of the protocol that exists.
const MAJOR: u16 = 0;
/// The newest minor version this crate knows.
const MINOR: u16 = 1;

/// The name of the display extension's capability.
pub(super) const EXTENSION: &str = "vfio_gfx";
/// The version of the display extension described in the book.
pub const EXTENSION_VERSION: u64 = 1;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Owns the device: its guest, DMA, interrupts, reset. One at a time.
    Vmm,
    /// Looks at the planes. Any number.
    Console,
}

/// Why a VERSION message is refused.
#[derive(Debug, Error)]
pub enum VersionError {
    /// No room for the two numbers.
    #[error("version: {0} bytes are too few for major and minor")]
    Short(usize),
    /// Another major version.
    #[error("version: major {0}, this side speaks {MAJOR}")]
    Major(u16),
    /// The JSON is not terminated by NUL.
    #[error("version: the capabilities do not end in NUL")]
    NotTerminated,
    /// Not JSON.
    #[error("version: the capabilities are not JSON")]
    NotJson(#[from] serde_json::Error),
    /// JSON, but not an object where one belongs.
    #[error("version: {0} is not an object")]
    NotObject(&'static str),
    /// A capability that is not a sensible number.
    #[error("version: capability {0} is not a number from {1} to 2^32-1")]
    Number(&'static str, u64),
    /// The display extension's capability is malformed.
    #[error("version: capability {EXTENSION} must be an object with version >= 1 and role vmm or console")]
    Extension,
}

impl From<VersionError> for Errno {
    fn from(_: VersionError) -> Self {
        Self::EINVAL
    }
}

/// The capabilities that matter to this crate, as one side states them. `None` = not mentioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Most descriptors in one message.
    pub max_msg_fds: Option<u64>,
    /// Most data bytes in one access.
    pub max_data_xfer_size: Option<u64>,
    /// Most DMA ranges.
    pub max_dma_maps: Option<u64>,
    /// Bitmap of page sizes.
    pub pgsizes: Option<u64>,
    /// The display extension: the newest version known, and the role asked for.
    pub extension: Option<(u64, Role)>,
}

/// A VERSION message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major version; 0.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// What the sender can do.
    pub capabilities: Capabilities,
}

impl Version {
    /// What a client of this crate proposes.
    #[must_use]
    pub fn proposal(role: Role) -> Self {
        Self {
            major: MAJOR,
            minor: MINOR,
            capabilities: Capabilities {
                max_msg_fds: Some(to_u64(MAX_MSG_FDS)),
                max_data_xfer_size: Some(to_u64(MAX_DATA_XFER)),
                extension: Some((EXTENSION_VERSION, role)),
                ..Capabilities::default()
            },
        }
    }

    /// What a server of this crate answers: of what was proposed, what it can do too, and never a longer number than
    /// the proposal's, so that the reply is never longer than the request (QEMU's buffer for it is the request's).
    #[must_use]
    pub fn answer(&self) -> Self {
        let proposed = &self.capabilities;
        let at_most = |value: Option<u64>, ours: u64| value.map(|value| value.min(ours));
        Self {
            major: MAJOR,
            minor: self.minor.min(MINOR),
            capabilities: Capabilities {
                max_msg_fds: at_most(proposed.max_msg_fds, to_u64(MAX_MSG_FDS)),
                max_data_xfer_size: at_most(proposed.max_data_xfer_size, to_u64(MAX_DATA_XFER)),
                max_dma_maps: at_most(proposed.max_dma_maps, to_u64(MAX_DMA_MAPS)),
                pgsizes: proposed.pgsizes.filter(|sizes| sizes & PAGE_SIZE != 0).map(|_| PAGE_SIZE),
                extension: proposed.extension.map(|(version, role)| (version.min(EXTENSION_VERSION), role)),
            },
        }
    }

    /// Reads a message's payload. Capabilities it does not know are skipped.
    ///
    /// # Errors
    /// [`VersionError`].
    pub fn parse(payload: &[u8]) -> Result<Self, VersionError> {
        let (&[a, b, c, d], json) =
            payload.split_first_chunk::<4>().ok_or(VersionError::Short(payload.len()))?;
        let (major, minor) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
        if major != MAJOR {
            return Err(VersionError::Major(major));
        }
        let capabilities = if json.is_empty() {
            Capabilities::default()
        } else {
            let json = json.strip_suffix(&[0]).ok_or(VersionError::NotTerminated)?;
            match serde_json::from_slice::<Value>(json)? {
                Value::Object(object) => Capabilities::from_json(&object)?,
                _ => return Err(VersionError::NotObject("the version data")),
            }
        };
        Ok(Self { major, minor, capabilities })
    }

    /// Appends the payload: numbers, JSON, NUL. A request states its role, a reply does not.
    pub fn encode(&self, is_reply: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.major.to_ne_bytes());
        out.extend_from_slice(&self.minor.to_ne_bytes());
        let mut json = Map::new();
        json.insert("capabilities".into(), Value::Object(self.capabilities.to_json(is_reply)));
        out.extend_from_slice(Value::Object(json).to_string().as_bytes());
        out.push(0);
    }
}

impl Capabilities {
    fn from_json(version_data: &Map<String, Value>) -> Result<Self, VersionError> {
        let object = match version_data.get("capabilities") {
            None => return Ok(Self::default()),
            Some(Value::Object(object)) => object,
            Some(_) => return Err(VersionError::NotObject("capabilities")),
        };
        let number = |name: &'static str, least: u64| match object.get(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(n) if n >= least && n <= u64::from(u32::MAX) => Ok(Some(n)),
                _ => Err(VersionError::Number(name, least)),
            },
        };
        Ok(Self {
            max_msg_fds: number("max_msg_fds", 0)?,
            max_data_xfer_size: number("max_data_xfer_size", 1)?,
            max_dma_maps: number("max_dma_maps", 0)?,
            pgsizes: number("pgsizes", 1)?,
            extension: object.get(EXTENSION).map(parse_extension).transpose()?,
        })
    }

    fn to_json(self, is_reply: bool) -> Map<String, Value> {
        let numbers = [
            ("max_msg_fds", self.max_msg_fds),
            ("max_data_xfer_size", self.max_data_xfer_size),
            ("max_dma_maps", self.max_dma_maps),
            ("pgsizes", self.pgsizes),
        ];
        let mut json: Map<String, Value> = numbers
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))))
            .collect();
        if let Some((version, role)) = self.extension {
            let mut extension = Map::new();
            extension.insert("version".into(), Value::from(version));
            if !is_reply {
                let role = match role {
                    Role::Vmm => "vmm",
                    Role::Console => "console",
                };
                extension.insert("role".into(), Value::from(role));
            }
            json.insert(EXTENSION.into(), Value::Object(extension));
        }
        json
    }
}

fn parse_extension(value: &Value) -> Result<(u64, Role), VersionError> {
    let version = value.get("version").and_then(Value::as_u64).filter(|version| *version >= 1);
    // A reply repeats no role; the asking side knows what it asked for.
    let role = match value.get("role") {
        None => Some(Role::Vmm),
        Some(role) => match role.as_str() {
            Some("vmm") => Some(Role::Vmm),
            Some("console") => Some(Role::Console),
            _ => None,
        },
    };
    version.zip(role).ok_or(VersionError::Extension)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(json: &str) -> Vec<u8> {
        [&[0, 0, 0, 0], json.as_bytes(), &[0]].concat()
    }

    const QEMU: &str = r#"{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}"#;
    const CLOUD_HYPERVISOR: &str =
        r#"{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}"#;

    #[test]
    fn real_clients_get_a_reply_no_longer_than_their_request() {
        for json in [QEMU, CLOUD_HYPERVISOR, "{}", r#"{"capabilities":{}}"#] {
            let request = request(json);
            let answer = Version::parse(&request).unwrap().answer();
            let mut reply = Vec::new();
            answer.encode(true, &mut reply);
            assert!(reply.len() <= request.len().max(26), "{json}");
            assert!(reply.windows(14).any(|w| w == b"\"capabilities\""), "cloud-hypervisor insists on it");
            assert_eq!(Version::parse(&reply).unwrap(), answer);
        }
    }

    #[test]
    fn qemu_is_offered_what_it_accepts() {
        let answer = Version::parse(&request(QEMU)).unwrap().answer().capabilities;
        assert_eq!(answer.max_msg_fds, Some(8));
        assert_eq!(answer.pgsizes, Some(4096));
        assert_eq!(answer.max_dma_maps, Some(65535));
        assert_eq!(answer.extension, None, "not proposed, not mentioned");
    }

    #[test]
    fn a_client_that_has_no_page_of_ours_is_not_answered_with_one() {
        let answered = |sizes: u64| {
            let json = format!(r#"{{"capabilities":{{"pgsizes":{sizes}}}}}"#);
            Version::parse(&request(&json)).unwrap().answer().capabilities.pgsizes
        };
        assert_eq!((answered(1 << 16), answered(1 << 16 | 1 << 12)), (None, Some(1 << 12)));
    }

    #[test]
    fn our_own_proposal_says_what_we_take() {
        for role in [Role::Vmm, Role::Console] {
            let mut request = Vec::new();
            Version::proposal(role).encode(false, &mut request);
            let capabilities = Version::parse(&request).unwrap().capabilities;
            assert_eq!((capabilities.max_msg_fds, capabilities.max_data_xfer_size), (Some(8), Some(1 << 20)));
            assert_eq!(capabilities.extension, Some((1, role)));
        }
    }

    #[test]
    fn the_extension_is_negotiated_down() {
        let json = r#"{"capabilities":{"vfio_gfx":{"version":7,"role":"console"}}}"#;
        let version = Version::parse(&request(json)).unwrap();
        assert_eq!(version.answer().capabilities.extension, Some((1, Role::Console)));
    }

    #[test]
    fn malformed_versions_are_refused() {
        for json in [
            "",
            "null",
            "[1]",
            "{",
            r#"{"capabilities":3}"#,
            r#"{"capabilities":{"max_msg_fds":-1}}"#,
            r#"{"capabilities":{"max_msg_fds":"8"}}"#,
            r#"{"capabilities":{"max_data_xfer_size":0}}"#,
            r#"{"capabilities":{"max_data_xfer_size":1e30}}"#,
            r#"{"capabilities":{"vfio_gfx":{}}}"#,
            r#"{"capabilities":{"vfio_gfx":{"version":1,"role":"king"}}}"#,
            r#"{"capabilities":{"pgsizes":0}}"#,
        ] {
            assert!(Version::parse(&request(json)).is_err(), "{json}");
        }
        assert!(Version::parse(&[0, 0]).is_err());
        assert!(Version::parse(b"\0\0\0\0{}").is_err(), "not terminated");
        assert!(Version::parse(&[1, 0, 0, 0]).is_err(), "major 1");
        assert!(Version::parse(&[0, 0, 0, 0]).is_ok(), "version data is optional");
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(Version::parse(&request(&deep)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Version::parse(&bytes);
        }
    }
}
