//! pixman, what everybody else composes with: found when the program runs, so that nothing is missing where it is not.
#![expect(unsafe_code, reason = "functions of a C library, found by name")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use vfio_gfx::format::Fourcc;

/// Debian's libpixman-1-0, and everybody else's.
const NAME: &CStr = c"libpixman-1.so.0";
/// `RTLD_NOW` (`dlfcn.h`)
const NOW: c_int = 2;

// In the C library itself since glibc 2.34, and always in musl's.
unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// `pixman_image_create_bits`: format, width, height, pixels, bytes per row.
type Create = unsafe extern "C" fn(u32, c_int, c_int, *mut u32, c_int) -> *mut c_void;
/// `pixman_image_unref`
type Unref = unsafe extern "C" fn(*mut c_void) -> c_int;
/// `pixman_image_composite32`: operation, source, mask, destination; then x and y in each of the three; width, height.
type Composite = unsafe extern "C" fn(
    c_int,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
);

/// `PIXMAN_OP_SRC`, `PIXMAN_OP_OVER` (`pixman.h`)
const SRC: c_int = 1;
const OVER: c_int = 3;

/// The library.
#[derive(Clone, Copy)]
pub(crate) struct Pixman {
    create: Create,
    unref: Unref,
    composite: Composite,
}

/// Memory that pixman may use: whole words.
pub(crate) struct Image {
    library: Pixman,
    image: *mut c_void,
    pixels: Vec<u32>,
    size: (c_int, c_int),
}

impl Pixman {
    /// `None` where it is not installed.
    pub(crate) fn open() -> Option<Self> {
        // SAFETY: a name that ends in 0; the initialisers of this library only find out what the CPU can do.
        let library = unsafe { dlopen(NAME.as_ptr(), NOW) };
        if library.is_null() {
            return None;
        }
        let find = |name: &CStr| {
            // SAFETY: a library that is open, and stays so, and a name that ends in 0.
            let found = unsafe { dlsym(library, name.as_ptr()) };
            (!found.is_null()).then_some(found)
        };
        let (create, unref, composite) = (
            find(c"pixman_image_create_bits")?,
            find(c"pixman_image_unref")?,
            find(c"pixman_image_composite32")?,
        );
        Some(Self {
            // SAFETY: the function of this name has this type in pixman.h.
            create: unsafe { std::mem::transmute::<*mut c_void, Create>(create) },
            // SAFETY: the same.
            unref: unsafe { std::mem::transmute::<*mut c_void, Unref>(unref) },
            // SAFETY: the same.
            composite: unsafe { std::mem::transmute::<*mut c_void, Composite>(composite) },
        })
    }

    /// An image of this format over words of pixels, as many as it needs; `None` for formats it is not asked about here.
    pub(crate) fn image(
        self,
        format: Fourcc,
        width: usize,
        height: usize,
        mut pixels: Vec<u32>,
    ) -> Option<Image> {
        // PIXMAN_FORMAT(bits per pixel, order of channels, bits of alpha, red, green, blue)
        let (code, bytes) = match format {
            Fourcc::XRGB8888 => (0x2002_0888, 4),
            Fourcc::ARGB8888 => (0x2002_8888, 4),
            Fourcc::XBGR8888 => (0x2003_0888, 4),
            Fourcc::RGB888 => (0x1802_0888, 3),
            Fourcc::RGB565 => (0x1002_0565, 2),
            _ => return None,
        };
        let stride = (width * bytes).next_multiple_of(4);
        if pixels.len() * 4 < stride * height {
            return None;
        }
        let size = (c_int::try_from(width).ok()?, c_int::try_from(height).ok()?);
        let stride = c_int::try_from(stride).ok()?;
        // SAFETY: `pixels` has `height` rows of `stride` bytes, as was just checked, and does not move its memory: `Image`
        // never changes its length and outlives the image.
        let image = unsafe { (self.create)(code, size.0, size.1, pixels.as_mut_ptr(), stride) };
        (!image.is_null()).then_some(Image { library: self, image, pixels, size })
    }
}

impl Image {
    /// The memory.
    pub(crate) fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// Converts all of `source`, of the same size.
    pub(crate) fn convert(&mut self, source: &Self) {
        assert_eq!(source.size, self.size);
        self.composite(SRC, source, (0, 0));
    }

    /// Blends all of `source` at this position.
    pub(crate) fn blend(&mut self, source: &Self, at: (c_int, c_int)) {
        self.composite(OVER, source, at);
    }

    fn composite(&mut self, operation: c_int, source: &Self, (x, y): (c_int, c_int)) {
        let (width, height) = source.size;
        let (none, composite) = (ptr::null_mut(), self.library.composite);
        // SAFETY: images that live, with the memory that is theirs; ours is borrowed exclusively; what leaves it is clipped.
        unsafe { composite(operation, source.image, none, self.image, 0, 0, 0, 0, x, y, width, height) };
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: the one reference to the image, which nobody uses from here on.
        unsafe { (self.library.unref)(self.image) };
    }
}
