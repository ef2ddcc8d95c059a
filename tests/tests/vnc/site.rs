//! Serves the files of a directory to a browser, and one page of our own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Component, Path, PathBuf},
    thread,
};

/// A web site on this machine, for as long as the test program runs.
pub(crate) struct Site {
    port: u16,
}

impl Site {
    #[track_caller]
    pub(crate) fn start(dir: PathBuf, page: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it was bound").port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let dir = dir.clone();
                // A browser that goes away is no failure.
                thread::spawn(move || answer(stream, &dir, page).ok());
            }
        });
        Self { port }
    }

    /// As in `http://127.0.0.1:PORT`.
    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn answer(mut stream: TcpStream, dir: &Path, page: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let target = first.split(' ').nth(1).unwrap_or("/");
    let path = Path::new(target.split('?').next().unwrap_or("/").trim_start_matches('/'));
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let (kind, body) = match path.to_str() {
        Some("") => ("text/html", page.as_bytes().to_vec()),
        _ if is_plain && path.extension().is_some_and(|name| name == "js") => {
            ("text/javascript", fs::read(dir.join(path)).unwrap_or_default())
        }
        _ => ("text/plain", Vec::new()),
    };
    let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}
