//! One HTTP/1.1 request on the web port: is it for the page, or to become a WebSocket?
//!
//! No I/O here: bytes of a request head in, an [`Answer`] out. Every connection carries one request; a page of four files
//! does not need more, and nothing then depends on where one request ends and the next begins.

use std::fmt::Write;

use tungstenite::handshake::derive_accept_key;

use super::origin::{Authority, Site};
use super::page;

/// Longest request head, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;

/// Most header lines in it; browsers send about twenty.
const MAX_HEADERS: usize = 64;

/// The subprotocol in which messages are pieces of the RFB byte stream, as noVNC and websockify have it.
pub const SUBPROTOCOL: &str = "binary";

/// What to say to a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Say this and close.
    Respond(Vec<u8>),
    /// Say this and go on as a WebSocket.
    Upgrade {
        /// `101 Switching Protocols`.
        response: Vec<u8>,
        /// Length of the request head, in bytes; what follows are frames already.
        head: usize,
    },
}

/// Why a request gets no page and no WebSocket.
struct Status {
    code: &'static str,
    reason: String,
    /// A further header line, with its end.
    header: &'static str,
}

impl Status {
    fn new(code: &'static str, reason: impl ToString) -> Self {
        Self { code, reason: reason.to_string(), header: "" }
    }
}

/// Answers what has arrived of a request, or `None` if the head is not complete. Garbage is answered as soon as it is
/// seen, not when it ends.
#[must_use]
pub fn answer(bytes: &[u8], site: &Site) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let result = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) if head <= MAX_HEAD => decide(&request, head, site),
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return None,
        Ok(_) => Err(Status::new("431 Request Header Fields Too Large", "expected at most 8 KiB of header")),
        Err(httparse::Error::TooManyHeaders) => {
            Err(Status::new("431 Request Header Fields Too Large", "expected at most 64 header lines"))
        }
        Err(error) => Err(Status::new("400 Bad Request", error)),
    };
    let head_only = request.method == Some("HEAD");
    Some(result.unwrap_or_else(|status| {
        tracing::debug!(status = status.code, reason = status.reason, "web request refused");
        let body = format!("{}\n{}\n", status.code, status.reason);
        respond(status.code, "text/plain; charset=utf-8", status.header, body.as_bytes(), head_only)
    }))
}

fn decide(request: &httparse::Request<'_, '_>, head: usize, site: &Site) -> Result<Answer, Status> {
    let bad = |reason: &str| Status::new("400 Bad Request", reason);
    let host = only(request, "host").map_err(|()| bad("expected one Host header, found several"))?;
    let host = host.ok_or_else(|| bad("expected a Host header, found none"))?;
    let host = Authority::parse(host).ok_or_else(|| bad("expected HOST or HOST:PORT in Host"))?;
    let origin = only(request, "origin").map_err(|()| bad("expected at most one Origin header"))?;
    site.check(&host, origin).map_err(|refusal| Status::new("403 Forbidden", refusal))?;

    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let upgrade = has_token(request, "upgrade", "websocket");
    match request.method {
        Some("GET") if upgrade && matches!(path, "/" | "/websockify") => upgrade_to_websocket(request, head),
        Some(method @ ("GET" | "HEAD")) => {
            let file = page::file(path).ok_or_else(|| {
                Status::new("404 Not Found", "the console is at / and its WebSocket at /websockify")
            })?;
            Ok(respond("200 OK", file.kind, "", file.content.as_bytes(), method == "HEAD"))
        }
        _ => Err(Status {
            header: "Allow: GET, HEAD\r\n",
            ..Status::new("405 Method Not Allowed", "expected GET")
        }),
    }
}

/// The server's side of the opening handshake, RFC 6455 section 4.2.
fn upgrade_to_websocket(request: &httparse::Request<'_, '_>, head: usize) -> Result<Answer, Status> {
    let bad = |reason: &str| Status::new("400 Bad Request", reason);
    if request.version != Some(1) || !has_token(request, "connection", "upgrade") {
        return Err(bad("expected HTTP/1.1 with Connection: Upgrade"));
    }
    if only(request, "sec-websocket-version") != Ok(Some("13")) {
        let header = "Sec-WebSocket-Version: 13\r\n";
        return Err(Status {
            header,
            ..Status::new("426 Upgrade Required", "expected WebSocket version 13")
        });
    }
    let key = only(request, "sec-websocket-key").ok().flatten().filter(|key| is_key(key));
    let key = key.ok_or_else(|| bad("expected one Sec-WebSocket-Key of 16 bytes in base64"))?;
    let mut response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        derive_accept_key(key.as_bytes())
    );
    if has_token(request, "sec-websocket-protocol", SUBPROTOCOL) {
        let _ = write!(response, "Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n");
    } else if values(request, "sec-websocket-protocol").next().is_some() {
        return Err(bad("expected the subprotocol \"binary\" or none"));
    }
    response.push_str("\r\n");
    Ok(Answer::Upgrade { response: response.into_bytes(), head })
}

/// 16 bytes in base64: 22 characters and two of padding.
fn is_key(key: &str) -> bool {
    let digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    key.strip_suffix("==").is_some_and(|digits| digits.len() == 22 && digits.bytes().all(digit))
}

/// The values of all headers of a name; those that are not text count as empty.
fn values<'a>(request: &'a httparse::Request<'_, '_>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| std::str::from_utf8(header.value).unwrap_or_default().trim())
}

/// The value of a header that may be there once.
fn only<'a>(request: &'a httparse::Request<'_, '_>, name: &'a str) -> Result<Option<&'a str>, ()> {
    let mut values = values(request, name);
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

/// Whether a comma-separated list has a word, whatever its case.
fn has_token(request: &httparse::Request<'_, '_>, name: &str, token: &str) -> bool {
    values(request, name)
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}

fn respond(code: &str, kind: &str, header: &str, body: &[u8], head_only: bool) -> Answer {
    let mut response = format!(
        "HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n{header}{}\r\n",
        body.len(),
        page::SECURITY_HEADERS
    )
    .into_bytes();
    if !head_only {
        response.extend_from_slice(body);
    }
    Answer::Respond(response)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HANDSHAKE: &str = "GET /websockify HTTP/1.1\r\nHost: 127.0.0.1:6080\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: base64, binary\r\nOrigin: http://127.0.0.1:6080\r\n\r\n";

    fn ask(request: &str) -> String {
        match answer(request.as_bytes(), &Site::default()).expect("a complete head") {
            Answer::Respond(bytes) => String::from_utf8(bytes).unwrap(),
            Answer::Upgrade { response, .. } => String::from_utf8(response).unwrap(),
        }
    }

    fn code(request: &str) -> u16 {
        ask(request).split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn the_handshake_of_the_rfc_is_answered_as_there() {
        let response = ask(HANDSHAKE);
        assert!(response.starts_with("HTTP/1.1 101 "));
        // RFC 6455 section 1.3 has this key and this answer.
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(response.contains("Sec-WebSocket-Protocol: binary\r\n"));
        let none = HANDSHAKE.replace("Sec-WebSocket-Protocol: base64, binary\r\n", "");
        assert!(!ask(&none).contains("Protocol:"));
        let program = none.replace("Origin: http://127.0.0.1:6080\r\n", "");
        assert_eq!(code(&program), 101, "a program that is no browser");
        assert_eq!(code(&HANDSHAKE.replace("/websockify", "/?x=y")), 101);
    }

    #[test]
    fn handshakes_that_are_none_say_what_is_missing() {
        for (from, to, expected) in [
            ("base64, binary", "base64", 400),
            ("Version: 13", "Version: 8", 426),
            ("keep-alive, Upgrade", "close", 400),
            ("HTTP/1.1", "HTTP/1.0", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ==", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j!Q==", 400),
            ("Host: 127.0.0.1:6080\r\n", "", 400),
            ("Host: 127.0.0.1:6080\r\n", "Host: 127.0.0.1:6080\r\nHost: x\r\n", 400),
            ("Host: 127.0.0.1:6080", "Host: rebound.example:6080", 403),
            ("Origin: http://127.0.0.1:6080", "Origin: https://evil.example", 403),
            ("Origin: http://127.0.0.1:6080", "Origin: null", 403),
            ("Origin: http://127.0.0.1:6080", "Origin: \u{e9}", 403),
            ("Origin:", "Origin: http://127.0.0.1:6080\r\nOrigin:", 400),
            ("GET /websockify", "GET /elsewhere", 404),
            ("GET /websockify", "POST /websockify", 405),
            ("GET /websockify", "GET http://127.0.0.1:6080/websockify", 404),
        ] {
            let request = HANDSHAKE.replacen(from, to, 1);
            assert_ne!(request, HANDSHAKE, "{from}");
            assert_eq!(code(&request), expected, "{to}");
        }
        let other = ask(&HANDSHAKE.replace("Version: 13", "Version: 8"));
        assert!(other.contains("\r\nSec-WebSocket-Version: 13\r\n"), "which one it is to be: {other}");
    }

    #[test]
    fn a_refusal_says_why_to_who_wants_to_read_it() {
        let get = ask("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(
            get.ends_with("404 Not Found\nthe console is at / and its WebSocket at /websockify\n"),
            "{get}"
        );
        let head = ask("HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 404 ") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn the_page_comes_with_headers_that_confine_it() {
        let response = ask("GET / HTTP/1.1\r\nHost: localhost:6080\r\n\r\n");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"));
        for line in
            ["default-src 'none'", "X-Frame-Options: DENY", "nosniff", "no-store", "Connection: close"]
        {
            assert!(head.contains(line), "{line}");
        }
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        let head_only = ask("HEAD / HTTP/1.1\r\nHost: localhost:6080\r\n\r\n");
        assert_eq!(head_only, format!("{head}\r\n\r\n"));
        assert_eq!(code("GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n"), 403);
        assert_eq!(code("GET /../../etc/passwd HTTP/1.1\r\nHost: [::1]\r\n\r\n"), 404);
        assert!(ask("PUT / HTTP/1.1\r\nHost: [::1]\r\n\r\n").contains("Allow: GET, HEAD\r\n"));
    }

    #[test]
    fn a_head_is_read_whole_wherever_it_is_split_and_what_follows_stays() {
        let bytes = [HANDSHAKE.as_bytes(), b"frames"].concat();
        for length in 0..HANDSHAKE.len() {
            assert_eq!(answer(&bytes[..length], &Site::default()), None, "{length}");
        }
        let Some(Answer::Upgrade { head, .. }) = answer(&bytes, &Site::default()) else {
            panic!("no upgrade")
        };
        assert_eq!(head, HANDSHAKE.len());
    }

    #[test]
    fn a_head_without_end_is_refused_at_the_limit() {
        let mut endless = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec();
        endless.resize(MAX_HEAD - 1, b'x');
        assert_eq!(answer(&endless, &Site::default()), None);
        endless.push(b'x');
        assert_eq!(code(std::str::from_utf8(&endless).unwrap()), 431);
        endless.extend(b"\r\n\r\n");
        assert_eq!(code(std::str::from_utf8(&endless).unwrap()), 431, "an end does not make it shorter");
        assert_eq!(code(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65))), 431);
        assert_eq!(code("\x16\x03\x01\x02"), 400, "TLS on a plain port is answered at once");
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer_or_wait(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(Answer::Upgrade { .. }) = answer(&bytes, &Site::default()) {
                prop_assert!(false, "noise is no handshake");
            }
        }
    }
}
