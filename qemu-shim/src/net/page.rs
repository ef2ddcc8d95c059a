//! The built-in page: a viewer for a browser, in a few files without dependencies.
//!
//! It talks to the port it came from and to nothing else, and its headers hold it to that: no other source of scripts,
//! styles or connections, and no other page may frame it.

/// One file of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    path: &'static str,
    /// Its media type.
    pub(super) kind: &'static str,
    pub(super) content: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [File; 6] = [
    File { path: "/", kind: "text/html; charset=utf-8", content: include_str!("page/index.html") },
    File { path: "/style.css", kind: "text/css; charset=utf-8", content: include_str!("page/style.css") },
    File { path: "/app.js", kind: SCRIPT, content: include_str!("page/app.js") },
    File { path: "/rfb.js", kind: SCRIPT, content: include_str!("page/rfb.js") },
    File { path: "/keys.js", kind: SCRIPT, content: include_str!("page/keys.js") },
    File { path: "/des.js", kind: SCRIPT, content: include_str!("page/des.js") },
];

/// Header lines of every response. `data:` images are the cursors that the page makes itself, and its icon.
pub(super) const SECURITY_HEADERS: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; \
    style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
    X-Frame-Options: DENY\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
    Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n\
    Cache-Control: no-store\r\n";

/// The file at a path.
pub(super) fn file(path: &str) -> Option<File> {
    FILES.into_iter().find(|file| file.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_asks_only_for_what_it_has() {
        let size: usize = FILES.iter().map(|file| file.content.len()).sum();
        assert!(size < 32 * 1024, "{size} bytes");
        for file in FILES {
            for (quote, end) in [("src=\"", '"'), ("href=\"", '"'), ("from \"", '"')] {
                for reference in file.content.split(quote).skip(1) {
                    let path = reference.split(end).next().unwrap().trim_start_matches('.');
                    let known = self::file(path).is_some() || path.starts_with("data:");
                    assert!(known, "{} wants {path:?}", file.path);
                }
            }
        }
    }

    #[test]
    fn nothing_in_it_breaks_its_own_policy() {
        for file in FILES {
            for word in ["onclick=", "style=\"", "<style", "eval(", "innerHTML", "javascript:", "https://"] {
                assert!(!file.content.contains(word), "{} has {word:?}", file.path);
            }
        }
        let html = file("/").unwrap().content;
        assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=").count());
    }
}
