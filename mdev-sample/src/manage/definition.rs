//! One definition: a file named by its UUID, in the format of mdevctl (its man page, mdevctl(8)):
//! `{"mdev_type": "mbochs-medium", "start": "auto", "attrs": [{"interfaces": "both"}]}`.

use std::collections::BTreeMap;

use mdev_sample::{DeviceType, UnknownType};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;
use vfio_gfx::device::Interfaces;

/// The one attribute that our devices have.
const INTERFACES: &str = "interfaces";

/// When a device is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Start {
    /// As soon as somebody serves the directory.
    Auto,
    /// Not by itself.
    Manual,
}

impl Start {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
        }
    }
}

/// Attributes in their order: each an object of one name and its value.
pub(crate) type Attributes = Vec<BTreeMap<String, String>>;

/// What a file says, before it is checked.
#[derive(Debug, Serialize, Deserialize)]
struct Raw {
    mdev_type: String,
    start: Start,
    #[serde(default)]
    attrs: Option<Attributes>,
}

/// A device that is to be.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) uuid: Uuid,
    pub(crate) device_type: DeviceType,
    pub(crate) start: Start,
    pub(crate) attrs: Attributes,
    /// What `attrs` says of the interfaces.
    pub(crate) interfaces: Option<Interfaces>,
}

/// Two that make the same device.
impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        (self.uuid, self.device_type.name(), self.start, &self.attrs)
            == (other.uuid, other.device_type.name(), other.start, &other.attrs)
    }
}

/// Why a file defines no device.
#[derive(Debug, Error)]
pub(crate) enum DefinitionError {
    #[error("expected a definition like {{\"mdev_type\": \"mdpy-vga\", \"start\": \"auto\", \"attrs\": []}}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Type(#[from] UnknownType),
    #[error("{device_type} belongs under {expected}/, found under {found}/")]
    Parent { device_type: &'static str, expected: &'static str, found: String },
    #[error("unknown attribute {0:?}; there is \"interfaces\"")]
    Attribute(String),
    #[error("attribute interfaces is {0:?}, expected region, dmabuf or both")]
    Interfaces(String),
}

/// The parent of a type: what its name says before the dash, as the kernel names types.
pub(crate) fn parent(device_type: &DeviceType) -> &'static str {
    let name = device_type.name();
    name.split_once('-').map_or(name, |(parent, _)| parent)
}

impl Definition {
    /// A device with no attributes.
    pub(crate) fn new(uuid: Uuid, device_type: DeviceType, start: Start) -> Self {
        Self { uuid, device_type, start, attrs: Vec::new(), interfaces: None }
    }

    /// Parses the file `uuid` in the folder `parent`.
    pub(crate) fn parse(uuid: Uuid, found: &str, text: &[u8]) -> Result<Self, DefinitionError> {
        let raw: Raw = serde_json::from_slice(text)?;
        let device_type = DeviceType::find(&raw.mdev_type)?;
        let expected = parent(&device_type);
        if found != expected {
            let (device_type, found) = (device_type.name(), found.to_owned());
            return Err(DefinitionError::Parent { device_type, expected, found });
        }
        let attrs = raw.attrs.unwrap_or_default();
        let mut interfaces = None;
        for (name, value) in attrs.iter().flatten() {
            if name != INTERFACES {
                return Err(DefinitionError::Attribute(name.clone()));
            }
            interfaces = Some(match value.as_str() {
                "region" => Interfaces::REGION,
                "dmabuf" => Interfaces::DMABUF,
                "both" => Interfaces::all(),
                other => return Err(DefinitionError::Interfaces(other.to_owned())),
            });
        }
        Ok(Self { uuid, device_type, start: raw.start, attrs, interfaces })
    }

    /// Whether it is served without being asked for.
    pub(crate) fn is_automatic(&self) -> bool {
        self.start == Start::Auto
    }

    /// The file.
    pub(crate) fn to_json(&self) -> String {
        let mdev_type = self.device_type.name().to_owned();
        let raw = Raw { mdev_type, start: self.start, attrs: Some(self.attrs.clone()) };
        serde_json::to_string_pretty(&raw).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mdev_sample::TYPES;

    fn parse(parent: &str, text: &str) -> Result<Definition, DefinitionError> {
        Definition::parse(Uuid::nil(), parent, text.as_bytes())
    }

    #[test]
    fn what_is_written_is_read_back() {
        for device_type in TYPES {
            for start in [Start::Auto, Start::Manual] {
                let definition = Definition::new(Uuid::nil(), device_type, start);
                assert_eq!(parse(parent(&device_type), &definition.to_json()).unwrap(), definition);
            }
        }
    }

    #[test]
    fn files_of_mdevctl_are_understood() {
        let text = r#"{
  "mdev_type": "mbochs-large",
  "start": "manual",
  "attrs": [ { "interfaces": "both" } ]
}"#;
        let definition = parse("mbochs", text).unwrap();
        assert_eq!((definition.device_type.name(), definition.start), ("mbochs-large", Start::Manual));
        assert_eq!(definition.interfaces, Some(Interfaces::all()));
        for no_attrs in ["", r#", "attrs": null"#, r#", "attrs": []"#] {
            let text = format!(r#"{{"mdev_type": "mdpy-hd", "start": "auto"{no_attrs}}}"#);
            assert_eq!(parse("mdpy", &text).unwrap().interfaces, None);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (parent, text, culprit) in [
            ("mdpy", "", "expected a definition"),
            ("mdpy", "[]", "expected a definition"),
            ("mdpy", r#"{"mdev_type": "mdpy-vga"}"#, "expected a definition"),
            ("mdpy", r#"{"mdev_type": "mdpy-vga", "start": "now"}"#, "expected a definition"),
            ("mdpy", r#"{"mdev_type": "mdpy-8k", "start": "auto"}"#, "mdpy-8k"),
            ("mbochs", r#"{"mdev_type": "mdpy-vga", "start": "auto"}"#, "under mdpy/, found under mbochs/"),
            (
                "mdpy",
                r#"{"mdev_type": "mdpy-vga", "start": "auto", "attrs": [{"vendor/x": "1"}]}"#,
                "vendor/x",
            ),
            (
                "mdpy",
                r#"{"mdev_type": "mdpy-vga", "start": "auto", "attrs": [{"interfaces": "1"}]}"#,
                "region",
            ),
        ] {
            let error = parse(parent, text).unwrap_err().to_string();
            assert!(error.contains(culprit), "{text}: {error}");
        }
    }
}
