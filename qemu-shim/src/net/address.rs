//! `--listen` and `--websocket`: where to listen, and who could then come.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`: TCP. Port 0 lets the system choose one.
    Tcp {
        /// The name that was given, if it was one; browsers may call us by it.
        name: Option<String>,
        /// What it stands for.
        at: SocketAddr,
    },
    /// `unix:PATH`: a socket file, for this user only.
    Unix(PathBuf),
}

/// Why a word is no place to listen at.
#[derive(Debug, Error)]
pub enum AddressError {
    /// None of the forms.
    #[error("{0:?} is no address: use IP:PORT like 127.0.0.1:5900 or [::1]:5900, or unix:PATH")]
    Form(String),
    /// A port without a host, where other programs disagree about what is meant.
    #[error("{0:?} does not say who may connect: use 127.0.0.1:{1} for this machine or 0.0.0.0:{1} for all")]
    NoHost(String, u16),
    /// A name nobody knows.
    #[error("{0:?} cannot be resolved")]
    Resolve(String, #[source] std::io::Error),
}

/// A listener that strangers could use.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0} can be reached from other machines and anybody there could see and type: give --password-file, listen on \
     127.0.0.1 or unix:PATH, or say --public-without-password"
)]
pub struct Exposed(Address);

impl Address {
    /// Understands one of the forms. A name is looked up, which can take as long as the system's resolver does.
    ///
    /// # Errors
    /// What the word is instead of an address.
    pub fn parse(word: &str) -> Result<Self, AddressError> {
        let form = || AddressError::Form(word.to_owned());
        if let Some(path) = word.strip_prefix("unix:") {
            return if path.is_empty() { Err(form()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Ok(at) = word.parse() {
            return Ok(Self::Tcp { name: None, at });
        }
        let (host, port) = word.rsplit_once(':').ok_or_else(form)?;
        let port: u16 = port.parse().map_err(|_| form())?;
        if host.is_empty() {
            return Err(AddressError::NoHost(word.to_owned(), port));
        }
        // Colons or brackets left over are an IPv6 address written wrongly, not a name to ask a resolver for.
        if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') {
            return Err(form());
        }
        let resolve = |error| AddressError::Resolve(host.to_owned(), error);
        let at = (host, port).to_socket_addrs().map_err(resolve)?.next();
        let at = at.ok_or_else(|| resolve(std::io::ErrorKind::NotFound.into()))?;
        Ok(Self::Tcp { name: Some(host.to_ascii_lowercase()), at })
    }

    /// Whether other machines can reach it: TCP on anything but a loopback address.
    #[must_use]
    pub fn is_public(&self) -> bool {
        match self {
            Self::Tcp { at, .. } => !at.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(word: &str) -> Result<Self, AddressError> {
        Self::parse(word)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { name: Some(name), at } => write!(f, "{name}:{}", at.port()),
            Self::Tcp { name: None, at } => write!(f, "{at}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The rule for listening in public: somebody is asked for a password, or the user said that nobody need be.
///
/// # Errors
/// [`Exposed`], a sentence for the user.
pub fn check_exposure(address: &Address, authenticated: bool, accepted: bool) -> Result<(), Exposed> {
    if address.is_public() && !authenticated && !accepted { Err(Exposed(address.clone())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(word: &str) -> Address {
        Address::parse(word).unwrap()
    }

    #[test]
    fn the_forms_are_understood_and_shown_as_written() {
        for word in
            ["127.0.0.1:5900", "[::1]:5900", "0.0.0.0:0", "unix:/run/x.sock", "unix:x", "localhost:6080"]
        {
            assert_eq!(parse(word).to_string(), word);
        }
    }

    #[test]
    fn what_is_no_address_is_said_to_be_none() {
        for word in [
            "",
            "5900",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:66000",
            "::1:5900",
            "[::1]",
            "unix:",
            "a b:1",
            "[::1:1",
        ] {
            let error = Address::parse(word).unwrap_err();
            assert!(matches!(error, AddressError::Form(_)), "{word:?}: {error}");
        }
        let error = Address::parse(":5900").unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:5900"), "{error}");
        assert!(matches!(Address::parse("no-such-host.invalid:1"), Err(AddressError::Resolve(..))));
    }

    #[test]
    fn only_loopback_and_unix_are_private() {
        for word in
            ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "unix:/x", "localhost:1"]
        {
            assert!(!parse(word).is_public(), "{word}");
        }
        for word in ["0.0.0.0:1", "[::]:1", "192.168.1.2:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1"] {
            assert!(parse(word).is_public(), "{word}");
        }
    }

    #[test]
    fn a_public_address_needs_a_password_or_a_word() {
        let public = parse("0.0.0.0:5900");
        let error = check_exposure(&public, false, false).unwrap_err();
        assert!(error.to_string().starts_with("0.0.0.0:5900 can be reached"), "{error}");
        assert_eq!(check_exposure(&public, true, false), Ok(()));
        assert_eq!(check_exposure(&public, false, true), Ok(()));
        assert_eq!(check_exposure(&parse("[::1]:5900"), false, false), Ok(()));
    }
}
