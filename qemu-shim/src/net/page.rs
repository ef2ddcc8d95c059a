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
    /// The parts that can be wrong without a browser noticing, under Node where there is one.
    #[test]
    fn its_des_and_its_keys_are_the_ones_everybody_has() {
        use std::process::Command;
        if Command::new("node").arg("--version").output().is_err() {
            eprintln!("skipped: no node here to run the page's scripts");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["des", "keys"] {
            let content = file(&format!("/{name}.js")).unwrap().content;
            std::fs::write(dir.path().join(name).with_extension("mjs"), content).unwrap();
        }
        let main = "import { respond } from './des.mjs'; import { keysym, scancode } from './keys.mjs';
            const challenge = Uint8Array.from({ length: 16 }, (_, n) => n * 17);
            console.log([...respond('pa\u{df}word-that-is-long', challenge)].join(' '));
            for (const [key, code, location] of [['a', 'KeyA', 0], ['F12', 'F12', 0], ['Shift', 'ShiftRight', 2],
                ['7', 'Numpad7', 3], ['Home', 'Numpad7', 3], ['Home', 'Home', 0], ['\u{20ac}', 'KeyE', 0],
                ['Dead', 'Equal', 0], ['Enter', 'NumpadEnter', 3], ['?', 'NumpadEqual', 0], ['x', 'Nonsense', 0]])
                console.log(keysym({ key, code, location }).toString(16), scancode({ key, code, location }));";
        std::fs::write(dir.path().join("main.mjs"), main).unwrap();
        let output = Command::new("node").arg("main.mjs").current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let output = String::from_utf8(output.stdout).unwrap();
        let challenge = std::array::from_fn(|n| u8::try_from(n * 17).unwrap());
        let password = crate::rfb::security::Password::new("pa\u{df}word-that-is-long".as_bytes()).unwrap();
        let response = password.response(challenge).map(|byte| byte.to_string()).join(" ");
        let keys = "61 30,ffc9 88,ffe2 54,ffb7 71,ff95 71,ff50 199,10020ac 18,0 13,ff8d 156,3f 89,78 0";
        let expected: Vec<&str> = std::iter::once(response.as_str()).chain(keys.split(',')).collect();
        assert_eq!(output.lines().collect::<Vec<_>>(), expected);
    }
}
