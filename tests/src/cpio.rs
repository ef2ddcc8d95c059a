//! Writes the archive a Linux kernel unpacks as its first root: cpio in the "newc" format.
//!
//! The format is described in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst: a
//! header of the magic "070701" and thirteen 8-digit hex fields, the name with its NUL, padding to 4 bytes,
//! the data, padding to 4 bytes; an entry named "TRAILER!!!" ends the archive.

use std::collections::BTreeSet;

/// File type bits of a directory with mode 0755, as in `st_mode`.
const DIRECTORY: u32 = 0o040_755;
/// File type bits of a regular file with mode 0755: executable, since nobody minds.
const FILE: u32 = 0o100_755;

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// An archive with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory. Its parent must have been added before; `path` has no leading slash.
    pub fn directory(&mut self, path: &str) -> &mut Self {
        self.entry(path, DIRECTORY, &[]);
        self
    }

    /// Adds a file that everybody may run. Its parent must have been added before; `path` has no leading
    /// slash.
    pub fn file(&mut self, path: &str, data: &[u8]) -> &mut Self {
        self.entry(path, FILE, data);
        self
    }

    /// Adds the directories above `path` that are not in `known`, and adds them there.
    pub fn parents(&mut self, path: &str, known: &mut BTreeSet<String>) -> &mut Self {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if known.insert(parent.to_owned()) {
                self.directory(parent);
            }
        }
        self
    }

    /// Ends the archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entries += 1;
        let size = |bytes: usize| u32::try_from(bytes).expect("a cpio entry is less than 4 GiB");
        let fields = [
            self.entries, // inode: distinct, or the kernel would take two files for hard links
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // time of modification
            size(data.len()),
            0, // device, major and minor
            0,
            0, // device the entry stands for, major and minor
            0,
            size(name.len() + 1), // with its NUL
            0,                    // checksum: not used by this variant
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        let aligned = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(aligned, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_once_and_before_their_children() {
        let (mut archive, mut expected) = (Archive::new(), Archive::new());
        let mut known = BTreeSet::from(["a".to_owned()]);
        archive.directory("a");
        for file in ["a/b/c/1", "a/b/2"] {
            archive.parents(file, &mut known).file(file, b"");
        }
        expected.directory("a").directory("a/b").directory("a/b/c").file("a/b/c/1", b"").file("a/b/2", b"");
        assert_eq!(archive.finish(), expected.finish());
    }

    #[test]
    fn an_archive_has_header_name_and_padded_data() {
        let mut archive = Archive::new();
        archive.directory("d").file("d/f", b"hello");
        let bytes = archive.finish();
        // Headers are 110 bytes; 110 + "d\0" = 112; 110 + "d/f\0" = 114 -> 116; 5 -> 8; 110 + "TRAILER!!!\0"
        // = 121 -> 124.
        assert_eq!(bytes.len(), 112 + 116 + 8 + 124);
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000041ed", "mode of the directory");
        let file = &bytes[112..];
        assert_eq!(&file[54..62], b"00000005", "size of the file");
        assert_eq!(&file[94..102], b"00000004", "length of the name");
        assert_eq!(&file[110..114], b"d/f\0");
        assert_eq!(&file[116..124], b"hello\0\0\0");
    }
}
