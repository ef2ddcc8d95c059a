//! Somebody who looks all the time, and remembers what must not have been seen.
//!
//! A console as a viewer has it, in a thread. While a machine boots, everything it shows is text, in the sixteen colours of VGA:
//! channels of 00, 55, aa or ff. The picture of before is noise, and so is nearly all that a wrong size, pitch or place of the
//! framebuffer, or memory that was not cleared, would bring up.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use qemu_shim::{Console, Frame, Refresh, Target, image::write_png};
use vfio_gfx_tests::{eventually, programs::artifacts};

/// What a display showed from one look to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Off,
    /// The picture of before.
    Picture,
    Blank,
    Text,
}

/// What was seen, in order, each kind once in a row; the last picture of each run of text is among the artifacts.
#[derive(Debug, Default)]
struct Account {
    seen: Vec<Seen>,
    frames: usize,
    faults: Vec<String>,
}

/// The thread.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    shows_text: Arc<AtomicBool>,
    thread: Option<JoinHandle<Account>>,
}

impl Witness {
    /// Begins to look; `name` is that of its artifacts. The display may show `picture`, and nothing else that is not text of
    /// this size; and not even that any more after it showed something else.
    pub(crate) fn start(name: &str, socket: &Path, size: (u32, u32), picture: &[u8]) -> Self {
        let display = Target::VfioUser(socket.to_owned()).open().expect("the device is served");
        let mut console = Console::new(display);
        let pixels = picture.as_chunks::<4>().0.iter().map(|pixel| u32::from_le_bytes(*pixel) & 0xff_ffff);
        let picture: Vec<u32> = pixels.collect();
        let (name, stop) = (name.to_owned(), Arc::new(AtomicBool::new(false)));
        let shows_text = Arc::new(AtomicBool::new(false));
        let (stopped, text) = (Arc::clone(&stop), Arc::clone(&shows_text));
        let thread = thread::spawn(move || {
            let mut account = Account::default();
            while !stopped.load(Ordering::Relaxed) {
                match console.refresh() {
                    Ok(refresh) => account.look(&name, refresh, &console, size, &picture),
                    Err(error) => account.faults.push(error.to_string()),
                }
                text.store(account.seen.last() == Some(&Seen::Text), Ordering::Relaxed);
                if !account.faults.is_empty() {
                    break;
                }
                // More often than a viewer: what is there for a moment only is to be seen.
                thread::sleep(Duration::from_millis(5));
            }
            account
        });
        Self { stop, shows_text, thread: Some(thread) }
    }

    /// Ends it. There was text, which is what the display shows now, and nothing that should not have been there.
    #[track_caller]
    pub(crate) fn expect_text(mut self) {
        eventually("the display shows no text", || match self.thread.as_ref() {
            Some(thread) if thread.is_finished() => Ok(()),
            _ => self.shows_text.load(Ordering::Relaxed).then_some(()).ok_or_else(|| "none yet".to_owned()),
        });
        self.stop.store(true, Ordering::Relaxed);
        let account = self.thread.take().map(JoinHandle::join).expect("joined once");
        let Account { seen, frames, faults } = account.expect("the witness does not panic");
        println!("{frames} frames: {seen:?}");
        assert!(faults.is_empty(), "{} of {frames} frames are wrong: {faults:#?}", faults.len());
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Account {
    fn look(&mut self, name: &str, refresh: Refresh, console: &Console, size: (u32, u32), picture: &[u32]) {
        let seen = match refresh {
            Refresh::Off => Seen::Off,
            Refresh::Same | Refresh::Torn => return,
            Refresh::Changed => {
                self.frames += 1;
                let frame = console.frame();
                match judge(frame, size, picture, self.seen.last().copied()) {
                    Ok(Seen::Picture) if self.seen.iter().any(|seen| *seen != Seen::Picture) => {
                        return self.fault(name, frame, "the picture of before is back");
                    }
                    Ok(seen) => {
                        if seen == Seen::Text {
                            let runs = self.seen.iter().filter(|seen| **seen == Seen::Text).count();
                            let before = runs - usize::from(self.seen.last() == Some(&Seen::Text));
                            save(&format!("{name}-{before}"), frame);
                        }
                        seen
                    }
                    Err(fault) => return self.fault(name, frame, &fault),
                }
            }
        };
        if self.seen.last() != Some(&seen) {
            self.seen.push(seen);
        }
    }

    fn fault(&mut self, name: &str, frame: &Frame, fault: &str) {
        save(&format!("{name}-fault"), frame);
        self.faults.push(fault.to_owned());
    }
}

/// What a frame shows. After the picture of before (`last`), what is text in one place and that picture in another was read
/// while it changed, and is taken for the picture.
fn judge(frame: &Frame, size: (u32, u32), picture: &[u32], last: Option<Seen>) -> Result<Seen, String> {
    let found = (frame.width(), frame.height());
    if found != size {
        return Err(format!("{}x{} pixels", found.0, found.1));
    }
    let pixels = frame.pixels();
    if pixels == picture {
        return Ok(Seen::Picture);
    }
    // Each channel is 0x55 times 0 to 3.
    let is_of_text = |pixel: u32| (pixel & 0x03_0303) * 0x55 == pixel;
    let others = pixels.iter().zip(picture).filter(|(pixel, _)| !is_of_text(**pixel));
    let (mut wrong, mut old) = (0, 0);
    others.for_each(|(pixel, before)| *(if pixel == before { &mut old } else { &mut wrong }) += 1);
    if wrong + old > 0 {
        let is_changing = wrong == 0 && last == Some(Seen::Picture);
        let fault = format!("{wrong} pixels are neither of text nor of the picture, {old} are of that");
        return is_changing.then_some(Seen::Picture).ok_or(fault);
    }
    Ok(if pixels.iter().all(|pixel| *pixel == pixels[0]) { Seen::Blank } else { Seen::Text })
}

fn save(name: &str, frame: &Frame) {
    let path = artifacts().join(format!("{name}.png"));
    let saved = File::create(&path).and_then(|file| write_png(frame, file));
    saved.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

#[test]
fn a_witness_knows_text_from_noise() {
    let picture = vfio_gfx_tests::picture::xrgb8888(8, 4);
    let pixels = picture.as_chunks::<4>().0.iter().map(|pixel| u32::from_le_bytes(*pixel) & 0xff_ffff);
    let picture: Vec<u32> = pixels.collect();
    let mut frame = Frame::new(8, 4).unwrap();
    let judged = |frame: &Frame| judge(frame, (8, 4), &picture, Some(Seen::Off));
    assert_eq!(judged(&frame), Ok(Seen::Blank));
    frame.pixels_mut()[3] = 0xaa_55ff;
    assert_eq!(judged(&frame), Ok(Seen::Text));
    frame.pixels_mut()[3] = 0xaa_56ff;
    assert!(judged(&frame).unwrap_err().contains("1 pixels"));
    assert!(judge(&frame, (8, 4), &picture, Some(Seen::Picture)).is_err());
    frame.pixels_mut().copy_from_slice(&picture);
    assert_eq!(judged(&frame), Ok(Seen::Picture));
    frame.pixels_mut()[9] = 0xaa_aaaa;
    assert!(judged(&frame).unwrap_err().contains("0 pixels are neither"));
    assert_eq!(judge(&frame, (8, 4), &picture, Some(Seen::Picture)), Ok(Seen::Picture));
    assert!(judge(&frame, (4, 8), &picture, None).unwrap_err().contains("8x4"));
}
