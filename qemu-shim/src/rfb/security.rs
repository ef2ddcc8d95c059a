//! What a client has to show before it sees the screen.
//!
//! VNC authentication proves a password of eight bytes with DES: it keeps honest people out, and says nothing to who can read
//! the wire except through guessing. It is safe inside TLS or on one machine; elsewhere VeNCrypt with a certificate is.

use std::fmt;
use std::hint::black_box;

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use thiserror::Error;

/// Security type `None` (RFC 6143 §7.2.1).
pub const NONE: u8 = 1;
/// Security type `VNC Authentication` (RFC 6143 §7.2.2).
pub const VNC: u8 = 2;
/// Security type `VeNCrypt` (rfbproto).
pub const VENCRYPT: u8 = 19;

/// VeNCrypt subtype: TLS with a certificate, then nothing.
pub const X509_NONE: u32 = 260;
/// VeNCrypt subtype: TLS with a certificate, then VNC authentication.
pub const X509_VNC: u32 = 261;

/// Bytes of a challenge and of its response.
pub const CHALLENGE_SIZE: usize = 16;

/// Bytes of a password that count.
pub const PASSWORD_SIZE: usize = 8;

/// A password of VNC authentication. It prints as dots.
#[derive(Clone)]
pub struct Password {
    /// The DES key: the bytes of the password, zeros behind them.
    key: [u8; PASSWORD_SIZE],
    truncated: bool,
}

/// Why bytes are no password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// Nothing in it.
    #[error("expected a password of 1 to {PASSWORD_SIZE} bytes, found an empty one")]
    Empty,
    /// What comes after it would be ignored by every client.
    #[error("expected a password of 1 to {PASSWORD_SIZE} bytes, found a zero byte in it")]
    Zero,
}

impl Password {
    /// The password that a file holds: its bytes, less one line end behind them.
    ///
    /// # Errors
    /// [`PasswordError`], if none is left.
    pub fn new(bytes: &[u8]) -> Result<Self, PasswordError> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(PasswordError::Empty);
        }
        if line.contains(&0) {
            return Err(PasswordError::Zero);
        }
        let mut key = [0; PASSWORD_SIZE];
        key.iter_mut().zip(line).for_each(|(to, from)| *to = *from);
        Ok(Self { key, truncated: line.len() > PASSWORD_SIZE })
    }

    /// Whether there was more than the protocol uses: [`PASSWORD_SIZE`] bytes. Worth a warning.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// What a client that knows the password answers to a challenge.
    #[must_use]
    pub fn response(&self, challenge: [u8; CHALLENGE_SIZE]) -> [u8; CHALLENGE_SIZE] {
        // The protocol counts the bits of a key from the other end than DES does.
        let des = Des::new(&self.key.map(u8::reverse_bits).into());
        let mut response = challenge;
        for block in response.as_chunks_mut::<8>().0 {
            let mut encrypted = (*block).into();
            des.encrypt_block(&mut encrypted);
            *block = encrypted.into();
        }
        response
    }

    /// Whether a response shows the password, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn proves(&self, challenge: [u8; CHALLENGE_SIZE], response: [u8; CHALLENGE_SIZE]) -> bool {
        let expected = self.response(challenge);
        let differ = expected.iter().zip(&response).fold(0, |differ, (a, b)| black_box(differ | (a ^ b)));
        differ == 0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: [u8; CHALLENGE_SIZE] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    /// What another implementation of DES makes of the challenge with the reversed keys c2f2ea0000000000 and
    /// 0e86ceceeef64e26.
    #[test]
    fn responses_are_those_of_another_implementation() {
        let known: [(&str, u128); 2] = [
            ("COW", 0xdc72_fe4d_a173_cc3f_3c68_4d66_37ed_8c28),
            ("password", 0xb866_9241_25c8_eebb_9deb_c1db_61c5_38e2),
        ];
        for (password, response) in known {
            let password = Password::new(password.as_bytes()).unwrap();
            assert_eq!(password.response(CHALLENGE), response.to_be_bytes());
        }
    }

    #[test]
    fn one_wrong_bit_is_wrong() {
        let password = Password::new(b"COW").unwrap();
        let right = password.response(CHALLENGE);
        assert!(password.proves(CHALLENGE, right));
        for at in 0..CHALLENGE_SIZE {
            for bit in 0..8 {
                let mut wrong = right;
                wrong[at] ^= 1 << bit;
                assert!(!password.proves(CHALLENGE, wrong), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn wrong_bits_do_not_make_up_for_each_other() {
        let password = Password::new(b"COW").unwrap();
        let right = password.response(CHALLENGE);
        assert!(!password.proves(CHALLENGE, right.map(|byte| byte ^ 0x20)));
        assert!(!password.proves(CHALLENGE, right.map(|byte| !byte)));
    }

    #[test]
    fn a_file_holds_a_password_and_perhaps_a_line_end() {
        let response = |bytes: &[u8]| Password::new(bytes).unwrap().response(CHALLENGE);
        assert_eq!(response(b"secret"), response(b"secret\n"));
        assert_eq!(response(b"secret"), response(b"secret\r\n"));
        assert_ne!(response(b"secret"), response(b"secret\n\n"), "only one line end is none of it");
        assert_eq!(response(b"password"), response(b"password and more"));
        assert!(Password::new(b"password1").unwrap().is_truncated());
        assert!(!Password::new(b"password").unwrap().is_truncated());
        assert_eq!(Password::new(b"\n").unwrap_err(), PasswordError::Empty);
        assert_eq!(Password::new(b"a\0b").unwrap_err(), PasswordError::Zero);
    }

    #[test]
    fn a_password_does_not_print() {
        assert_eq!(format!("{:?}", Password::new(b"secret").unwrap()), "Password(...)");
    }
}
