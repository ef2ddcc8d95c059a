//! TLS below a channel: rustls, with bounded buffers and a socket that never blocks.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use thiserror::Error;

use super::stream::Stream;

/// What is kept for a peer that does not read, in bytes: sealed records, and what is written before the handshake ends.
pub const BUFFER_LIMIT: usize = 64 * 1024;

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{path}: expected {expected} in PEM form")]
    File {
        /// Which one.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// Why that cannot be had.
        #[source]
        source: pem::Error,
    },
    /// No certificate in a file that was read.
    #[error("{0}: expected a certificate in PEM form, found none")]
    NoCertificate(PathBuf),
    /// They do not go together, or are of a kind that is not supported.
    #[error("{certificate} and {key}: not usable together")]
    Pair {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
}

/// Reads `--tls-cert` (the server's certificate, then those that lead to a root) and `--tls-key`.
///
/// # Errors
/// Which file is wrong, and how.
pub fn load_tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let file = |path: &Path, expected| {
        let path = path.to_owned();
        move |source| TlsError::File { path, expected, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file(certificate, "a certificate"))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(certificate.to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(file(key, "a private key"))?;
    let pair = |source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(pair)?;
    Ok(Arc::new(config))
}

/// A socket, and TLS on it once that began.
#[derive(Debug)]
pub(super) struct Transport {
    stream: Stream,
    tls: Option<Box<ServerConnection>>,
}

impl Transport {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, tls: None }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Begins TLS as the server. `early` is what was read of the peer's records before we knew that they were such.
    pub(super) fn start_tls(&mut self, config: Arc<ServerConfig>, mut early: &[u8]) -> io::Result<()> {
        if self.tls.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "expected a plain channel, found one with TLS",
            ));
        }
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(BUFFER_LIMIT));
        while !early.is_empty() {
            if tls.read_tls(&mut early)? == 0 {
                break;
            }
            tls.process_new_packets().map_err(invalid)?;
        }
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// Whether a handshake has begun and not ended.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether sealed bytes wait for the socket to take them.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Says goodbye as far as the socket takes it now.
    pub(super) fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = send(tls, &mut self.stream);
        }
        self.stream.finish();
    }
}

impl Read for Transport {
    /// Takes one look at the socket at most: records without content must not keep the loop here. The end without
    /// TLS's goodbye is an end too, as RFB has no message that could be cut short unnoticed.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(buffer) };
        match open(tls, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        tls.read_tls(&mut self.stream)?;
        let processed = tls.process_new_packets();
        // What the handshake answers, or the alert that says what was wrong.
        let sent = send(tls, &mut self.stream);
        processed.map_err(invalid)?;
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        open(tls, buffer)
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.write(bytes) };
        send_some(tls, &mut self.stream)?;
        let taken = tls.writer().write(bytes)?;
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        send_some(tls, &mut self.stream)?;
        Ok(taken)
    }

    /// Succeeds when nothing is left; `WouldBlock` until then.
    fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.stream.flush() };
        send(tls, &mut self.stream)
    }
}

/// Takes opened bytes.
fn open(tls: &mut ServerConnection, buffer: &mut [u8]) -> io::Result<usize> {
    match tls.reader().read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        result => result,
    }
}

/// Sends all sealed bytes, or says `WouldBlock`.
fn send(tls: &mut ServerConnection, stream: &mut Stream) -> io::Result<()> {
    while tls.wants_write() {
        if tls.write_tls(stream)? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Sends what the socket takes.
fn send_some(tls: &mut ServerConnection, stream: &mut Stream) -> io::Result<()> {
    match send(tls, stream) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        result => result,
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
