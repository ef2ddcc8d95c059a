//! A VNC viewer as small as a test can do with, which does not panic at what a server does.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A viewer that takes Raw only.
#[derive(Debug)]
pub struct Viewer {
    stream: UnixStream,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

impl Viewer {
    /// Connects with RFB 3.8 and no password.
    ///
    /// # Errors
    /// What the socket says, or `InvalidData`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut viewer = Self { stream, width: 0, height: 0 };
        let version = viewer.read::<12>()?;
        viewer.stream.write_all(&version)?;
        // One security type, None.
        if viewer.read::<2>()? != [1, 1] {
            return Err(io::ErrorKind::InvalidData.into());
        }
        viewer.stream.write_all(&[1])?;
        viewer.read::<4>()?;
        viewer.stream.write_all(&[1])?;
        let screen = viewer.read::<24>()?;
        (viewer.width, viewer.height) = (number(&screen[0..2]), number(&screen[2..4]));
        let name = u32::from_be_bytes([screen[20], screen[21], screen[22], screen[23]]);
        viewer.skip(name as usize)?;
        Ok(viewer)
    }

    /// Asks for the whole screen and waits for it. Returns the bytes of pixels that came.
    ///
    /// # Errors
    /// What the socket says, or `InvalidData`.
    pub fn update(&mut self) -> io::Result<usize> {
        let size = [self.width.to_be_bytes(), self.height.to_be_bytes()].concat();
        self.stream.write_all(&[&[3, 0, 0, 0, 0, 0], &size[..]].concat())?;
        let [kind, _, high, low] = self.read()?;
        if kind != 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = 0;
        for _ in 0..u16::from_be_bytes([high, low]) {
            let rectangle = self.read::<12>()?;
            let size = usize::from(number(&rectangle[4..6])) * usize::from(number(&rectangle[6..8])) * 4;
            if rectangle[8..] != [0; 4] {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.skip(size)?;
            bytes += size;
        }
        Ok(bytes)
    }

    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, count: usize) -> io::Result<()> {
        self.stream.read_exact(&mut vec![0; count])
    }
}

fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// All that a viewer does, from its start to its end.
///
/// # Errors
/// What the socket says; `InvalidData` if not every pixel came.
pub fn whole_visit(path: &Path) -> io::Result<()> {
    let mut viewer = Viewer::connect(path)?;
    let expected = usize::from(viewer.width) * usize::from(viewer.height) * 4;
    let found = viewer.update()?;
    if found == expected && found > 0 { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
