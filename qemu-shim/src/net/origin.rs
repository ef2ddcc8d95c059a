//! Whose page may connect: the rule that keeps strangers' web pages out.
//!
//! A browser lets any page open a WebSocket to any address, also to `127.0.0.1`, and only says in `Origin` whose page it
//! is. So an `Origin` must be ours: the host and port that the request itself is for (RFC 6455 section 10.2). That alone
//! is not enough: a stranger's name can be made to resolve to our address ("DNS rebinding"), and then `Origin` and
//! `Host` agree. So `Host` must be something that only we can be: an IP address, `localhost`, the name we were told to
//! listen on, or one the user allows. A program that is no browser sends no `Origin` and needs none.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

use super::address::Address;

/// A host and perhaps a port, as in `Host` (RFC 9110 section 7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Lower case; an IPv6 address without its brackets.
    host: String,
    port: Option<u16>,
}

/// Where a page came from: scheme, host and port (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    https: bool,
    authority: Authority,
}

/// Not the form of an origin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no origin: expected http://HOST[:PORT] or https://HOST[:PORT] without a path")]
pub struct OriginError(String);

/// Why a request is refused, in a sentence for whoever runs the console.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// `Host` is a name that could be a stranger's.
    #[error(
        "host {0:?} is not a name of this console; open it by its IP address or allow it with --allow-origin"
    )]
    Host(String),
    /// The page is somebody else's.
    #[error("pages of {0:?} may not connect to this console; allow them with --allow-origin")]
    Origin(String),
}

/// What a web listener goes by: its own name, and the origins the user allows beside its own.
#[derive(Clone, Debug, Default)]
pub struct Site {
    name: Option<String>,
    allowed: Vec<Origin>,
}

impl Authority {
    /// Understands `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, port)
            }
            None => {
                let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
                if host.is_empty() || !host.bytes().all(name) {
                    return None;
                }
                (host, port)
            }
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
            None if port.is_empty() => None,
            None => return None,
        };
        Some(Self { host: host.to_ascii_lowercase(), port })
    }

    fn is_address(&self) -> bool {
        self.host.parse::<Ipv4Addr>().is_ok() || self.host.parse::<Ipv6Addr>().is_ok()
    }

    /// Whether both name the same place for a scheme with that default port.
    fn same(&self, other: &Self, default: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let error = || OriginError(text.to_owned());
        let (https, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://").ok_or_else(error)?),
        };
        Ok(Self { https, authority: Authority::parse(rest).ok_or_else(error)? })
    }
}

impl Origin {
    fn default_port(&self) -> u16 {
        if self.https { 443 } else { 80 }
    }

    fn is_at(&self, host: &Authority) -> bool {
        self.authority.same(host, self.default_port())
    }
}

impl Site {
    /// The site at a listener's address.
    #[must_use]
    pub fn new(address: &Address, allowed: Vec<Origin>) -> Self {
        let name = match address {
            Address::Tcp { name, .. } => name.clone(),
            Address::Unix(_) => None,
        };
        Self { name, allowed }
    }

    /// Whether a request with this `Host` and perhaps an `Origin` may be answered. The scheme of the origin is not
    /// compared with ours: something in front of us may speak TLS for us.
    ///
    /// # Errors
    /// Which of the two is a stranger's.
    pub(super) fn check(&self, host: &Authority, origin: Option<&str>) -> Result<(), Refusal> {
        let known = host.is_address()
            || host.host == "localhost"
            || self.name.as_deref() == Some(&host.host)
            || self.allowed.iter().any(|allowed| allowed.is_at(host));
        if !known {
            return Err(Refusal::Host(host.host.clone()));
        }
        let Some(text) = origin else { return Ok(()) };
        let stranger = || Refusal::Origin(text.to_owned());
        let origin: Origin = text.parse().map_err(|_| stranger())?;
        let ours = origin.is_at(host) || self.allowed.iter().any(|allowed| same_origin(allowed, &origin));
        if ours { Ok(()) } else { Err(stranger()) }
    }
}

fn same_origin(a: &Origin, b: &Origin) -> bool {
    a.https == b.https && a.authority.same(&b.authority, a.default_port())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(site: &Site, host: &str, origin: Option<&str>) -> Result<(), Refusal> {
        site.check(&Authority::parse(host).unwrap(), origin)
    }

    #[test]
    fn our_own_page_and_programs_may_connect() {
        let site = Site::default();
        for host in ["127.0.0.1:6080", "localhost:6080", "LOCALHOST:6080", "[::1]:6080", "192.168.1.9"] {
            assert_eq!(check(&site, host, None), Ok(()), "{host}");
            for scheme in ["http", "https"] {
                assert_eq!(check(&site, host, Some(&format!("{scheme}://{host}"))), Ok(()), "{host}");
            }
        }
        assert_eq!(check(&site, "10.0.0.1:443", Some("https://10.0.0.1")), Ok(()), "default ports count");
        assert_eq!(check(&site, "10.0.0.1", Some("http://10.0.0.1:80")), Ok(()));
    }

    #[test]
    fn strangers_pages_may_not() {
        let site = Site::default();
        for origin in [
            "https://evil.example",
            "http://127.0.0.1",
            "http://127.0.0.1:6081",
            "http://localhost:6080",
            "http://127.0.0.1:6080.evil.example",
            "http://127.0.0.1:6080/",
            "http://user@127.0.0.1:6080",
            "file://",
            "null",
            "",
            "ws://127.0.0.1:6080",
            "chrome-extension://127.0.0.1:6080",
        ] {
            assert!(
                matches!(check(&site, "127.0.0.1:6080", Some(origin)), Err(Refusal::Origin(_))),
                "{origin}"
            );
        }
    }

    #[test]
    fn a_name_that_could_be_a_strangers_is_refused_even_without_an_origin() {
        let site = Site::default();
        for host in [
            "evil.example:6080",
            "localhost.",
            "127.0.0.1.nip.example",
            "localhost.evil.example",
            "2130706433",
        ] {
            let refusal = check(&site, host, None).unwrap_err();
            assert!(matches!(refusal, Refusal::Host(_)), "{host}");
            assert!(check(&site, host, Some(&format!("http://{host}"))).is_err(), "{host}");
        }
    }

    #[test]
    fn names_we_listen_on_and_names_allowed_are_ours() {
        let at = "127.0.0.1:6080".parse().unwrap();
        let allowed = vec!["https://console.example".parse().unwrap()];
        let site = Site::new(&Address::Tcp { name: Some("lab-7".into()), at }, allowed);
        assert_eq!(check(&site, "lab-7:6080", Some("http://lab-7:6080")), Ok(()));
        assert_eq!(
            check(&site, "console.example", Some("https://console.example")),
            Ok(()),
            "behind a proxy"
        );
        assert_eq!(
            check(&site, "127.0.0.1:6080", Some("https://console.example")),
            Ok(()),
            "from another page"
        );
        assert!(
            check(&site, "127.0.0.1:6080", Some("http://console.example")).is_err(),
            "the scheme is part of it"
        );
        assert!(check(&site, "console.example:81", None).is_err());
    }

    #[test]
    fn what_is_no_authority_is_none() {
        for text in [
            "",
            ":80",
            "a:b",
            "a:70000",
            "[::1",
            "[::1]x",
            "[x]",
            "a b",
            "::1",
            "a/",
            "a@b",
            "a:+1",
            "[1.2.3.4]",
        ] {
            assert_eq!(Authority::parse(text), None, "{text:?}");
        }
        assert_eq!("https://x/path".parse::<Origin>(), Err(OriginError("https://x/path".into())));
    }

    proptest! {
        #[test]
        fn any_text_is_an_authority_or_not(text in ".{0,40}") {
            if let Some(authority) = Authority::parse(&text) {
                prop_assert!(text.to_ascii_lowercase().contains(&authority.host));
            }
            let _ = text.parse::<Origin>();
        }
    }
}
