//! Where we answer otherwise than the kernel's drivers, on purpose.
//!
//! Every rule says what the kernel must have answered and what we must answer, so that a recording with one changed byte
//! is a mismatch and not a deviation. Citations are of Linux 6.12: `vfio.h` is `include/uapi/linux/vfio.h`, `mdpy.c` and
//! `mbochs.c` are in `samples/vfio-mdev`.

use super::context::{Context, Part};

/// A difference that is meant.
#[derive(Clone, Copy)]
pub struct Deviation {
    /// Short name.
    pub id: &'static str,
    /// How we answer, and why.
    pub reason: &'static str,
    /// The rule of the uapi, or the kernel's defect, that it answers.
    pub answers: &'static str,
    pub(super) matches: fn(&Context<'_>) -> bool,
}

/// All of them.
pub const DEVIATIONS: &[Deviation] = &[
    Deviation {
        id: "reset-announced",
        reason: "GET_INFO says that RESET works, because it does; without the flag a VMM does not use it",
        answers: "mdpy.c:524, mbochs.c:1197: the flag is missing although the ioctl works",
        matches: |c| c.is("get_info", "flags") && c.values("02000000", "03000000"),
    },
    Deviation {
        id: "irq-flags-defined",
        reason: "GET_IRQ_INFO returns the flags of the interrupt: none",
        answers: "mdpy.c:572, mbochs.c:1243: the caller's own flags come back",
        matches: |c| {
            c.op_starts("get_irq_info") && c.field == "flags" && c.kernel_left_input() && c.ours == "00000000"
        },
    },
    Deviation {
        id: "irq-info-any-time",
        reason: "GET_IRQ_INFO answers whether or not GET_INFO was called before",
        answers: "mdpy.c:582: compares with a count that only GET_INFO sets",
        matches: |c| {
            c.is_mdpy()
                && c.op_starts("get_irq_info")
                && !c.got_info()
                && c.kernel_refused("EINVAL")
                && c.we_accepted()
        },
    },
    Deviation {
        id: "config-256",
        reason: "configuration space has 256 bytes",
        answers: "mdpy.c:35, mbochs.c:73: 255, a size that PCI does not know",
        matches: |c| {
            c.is("get_region_info", "size")
                && c.index() == 7
                && c.values("ff00000000000000", "0001000000000000")
                || matches!(c.op(), "pread" | "pwrite")
                    && c.end() == 256
                    && c.predicts("EFAULT")
                    && c.kernel_refused("EFAULT")
                    && c.we_accepted()
        },
    },
    Deviation {
        id: "caps-need-room",
        reason: "a region info whose argsz cannot hold the capabilities gets none, and learns the size to bring",
        answers: "vfio.h:91-98; mbochs.c:1218 sets cap_offset whatever the argsz, and copies as much as fits",
        matches: |c| {
            let short = c.is_mbochs() && c.op() == "get_region_info" && c.index() == 9 && c.argsz() < 48;
            let cut = "02000100000000000100000001000000";
            short
                && (c.field == "cap_offset" && c.values("20000000", "00000000")
                    || c.field == "caps" && c.kernel_overwrote(cut) && c.we_left_input())
        },
    },
    Deviation {
        id: "no-stack-in-replies",
        reason: "a region info without capabilities ends with its struct",
        answers: "mbochs.c:1218: copies argsz bytes, the last of them never initialised",
        matches: |c| {
            c.is_mbochs()
                && c.is("get_region_info", "caps")
                && c.index() != 9
                && c.room_for_caps()
                    .is_some_and(|room| (1..=16).contains(&room) && c.kernel_left_input_behind(room))
                && c.we_left_input()
        },
    },
    Deviation {
        id: "only-what-is-needed-is-written",
        reason: "a region info touches the struct and its capabilities and nothing else, and where it fails nothing at all",
        answers: "mbochs.c:1218 (mbochs_ioctl) copies argsz bytes, and fails in the middle where the memory ends before that",
        matches: |c| {
            let has_caps = c.index() == 9;
            let ours = match c.field {
                "ret" | "errno" => !has_caps && c.ours == "0",
                _ => c.we_left_input() && (has_caps == c.we_refused("EFAULT")),
            };
            c.is_mbochs()
                && c.op() == "get_region_info"
                && c.memory_is_short()
                && c.kernel_as_predicted()
                && ours
        },
    },
    Deviation {
        id: "argsz-has-no-maximum",
        reason: "any argsz that covers the struct is fine",
        answers: "vfio.h:40-46; mbochs.c:1218 refuses more than 48",
        matches: |c| {
            c.is_mbochs()
                && c.op() == "get_region_info"
                && c.argsz() > 48
                && c.kernel_refused("EINVAL")
                && c.we_accepted()
        },
    },
    Deviation {
        id: "no-hotspot-is-all-ones",
        reason: "a plane without a hotspot says 0xffffffff",
        answers: "vfio.h:805; mdpy.c and mbochs.c leave 0",
        matches: |c| {
            c.op() == "query_gfx_plane"
                && matches!(c.field, "x_hot" | "y_hot")
                && c.values("00000000", "ffffffff")
        },
    },
    Deviation {
        id: "size-is-whole-pages",
        reason: "size is a multiple of the page size and covers the plane from the page it starts in",
        answers: "vfio.h:823; mbochs.c:250 gives stride * height",
        matches: |c| {
            c.is_mbochs()
                && c.is("query_gfx_plane", "size")
                && c.kernel_as_predicted()
                && c.modes_are_equal()
                && c.we_show_as_expected()
                && c.our_size_is_pages()
        },
    },
    Deviation {
        id: "first-query-succeeds",
        reason: "the first query of a mode succeeds like the second",
        answers: "mbochs.c:1140-1145: the new buffer is not assigned, so its first query fails with ENOMEM",
        matches: |c| {
            c.is_mbochs()
                && c.op() == "query_gfx_plane"
                && c.predicts("ENOMEM")
                && c.kernel_refused("ENOMEM")
                && c.we_show_as_expected()
        },
    },
    Deviation {
        id: "blanked-is-off",
        reason: "a screen that the guest has blanked, by the VGA attribute controller, is a plane that is off",
        answers: "bochs-drm blanks so (bochs_hw_blank); mbochs.c:336-401 (handle_mmio_write) ignores the VGA ports",
        matches: |c| {
            c.is_mbochs()
                && c.op() == "query_gfx_plane"
                && c.plane_type() == 1
                && c.kernel_as_predicted()
                && c.we_are_blank()
                && c.we_show_as_expected()
        },
    },
    Deviation {
        id: "bars-follow-command",
        reason: "while COMMAND does not have memory decoded, a BAR reads as all ones and ignores writes, mode sets among \
                 them",
        answers: "PCI Local Bus 3.0, 6.2.2; mdpy.c:148-171, mbochs.c:308-334: COMMAND cannot be written and is never asked",
        matches: |c| {
            let bars = [Part::Window, Part::Dispi, Part::Qext, Part::Registers, Part::Vram];
            let unread = c.differs_only_in(&bars) && c.we_read_nothing();
            let unwritten = c.differs_only_in(&[Part::Dispi]) && c.dispi_reads_as_expected(false);
            let unset = c.op() == "query_gfx_plane" && c.plane_type() == 1 && c.we_show_as_expected();
            c.kernel_as_predicted() && (unread || c.registers_differ() && (unwritten || unset))
        },
    },
    Deviation {
        id: "ids-are-our-own",
        reason: "buffers are numbered in the order in which we first showed them",
        answers: "vfio.h:837-845: an id is whatever the query says; mbochs.c (mbochs_dmabuf_alloc) has numbered modes that are \
                  off here",
        matches: |c| {
            c.is_mbochs()
                && c.is("query_gfx_plane", "handle")
                && c.kernel_as_predicted()
                && c.modes_are_equal()
                && c.we_show_as_expected()
        },
    },
    Deviation {
        id: "never-shown-never-issued",
        reason: "a buffer of a plane that is off here was never issued, so it is unknown",
        answers: "mbochs.c (mbochs_query_gfx_plane) issues one for what blanked-is-off and bars-follow-command find off",
        matches: |c| {
            c.op() == "get_gfx_dmabuf"
                && c.is_never_shown()
                && c.kernel_as_predicted()
                && c.we_refused("ENOENT")
        },
    },
    Deviation {
        id: "one-region-at-a-time",
        reason: "a read or write that begins in one region and ends in the next is refused, EFAULT, and does nothing",
        answers: "vfio.h:268-287 gives each region its place and size; mbochs.c (mbochs_read, mbochs_write) asks for each four \
                  bytes anew where they are, so it goes on in whatever comes next",
        matches: |c| {
            c.is_mbochs()
                && matches!(c.op(), "pread" | "pwrite")
                && c.leaves_its_region()
                && c.predicts("0")
                && c.kernel_as_predicted()
                && c.we_refused("EFAULT")
        },
    },
    Deviation {
        id: "other-planes-are-off",
        reason: "a query for a plane that the device does not have finds it off",
        answers: "vfio.h:785-807; mdpy.c:595 shows its primary plane whatever the type asked for",
        matches: |c| {
            c.is_mdpy()
                && c.op() == "query_gfx_plane"
                && c.plane_type() >= 2
                && c.kernel_showed_primary()
                && c.we_said_off()
        },
    },
    Deviation {
        id: "buffers-can-be-mapped",
        reason: "a buffer can be mapped for reading",
        answers: "mbochs.c:841: the export is not writable, so the core clears VM_SHARED and mbochs refuses what is left",
        matches: |c| {
            c.op() == "get_gfx_dmabuf"
                && (c.field == "mmap_shared" && c.values("EINVAL", "0")
                    || c.field == "mmap_private" && c.buffer_is_memfd() && c.values("EINVAL", "0"))
        },
    },
    Deviation {
        id: "buffer-is-whole-pages",
        reason: "a dma-buf has whole pages; the memfd that stands in for one has the whole video memory",
        answers: "vfio.h:823; mbochs.c:250. A host without /dev/udmabuf has no dma-bufs to give",
        matches: |c| {
            c.is("get_gfx_dmabuf", "size") && c.kernel_as_predicted() && c.our_buffer_size_is_right()
        },
    },
    Deviation {
        id: "memfd-has-no-offset",
        reason: "where a memfd stands in for a dma-buf, a plane that does not start with it is refused, not shown wrongly",
        answers: "the ioctl returns a descriptor and nothing beside it; the vfio-user extension has the offset",
        matches: |c| {
            c.op() == "get_gfx_dmabuf"
                && c.buffer_is_memfd_at_an_offset()
                && match c.field {
                    "ret" => c.values("1", "-1"),
                    "errno" => c.values("0", "EINVAL"),
                    "size" => c.kernel_as_predicted() && c.ours.is_empty(),
                    _ => c.values("EINVAL", ""),
                }
        },
    },
    Deviation {
        id: "config-works",
        reason: "configuration space: PCI revision 2 (for the qext registers), writable COMMAND and interrupt line, BARs that \
                 keep only the address bits above their size",
        answers: "mdpy.c:148-171, mbochs.c:308-334: two registers take writes, of any address and as four bytes always",
        matches: |c| c.differs_only_in(&[Part::Config]) && c.kernel_as_predicted(),
    },
    Deviation {
        id: "edid-from-the-start",
        reason: "link up and a valid EDID at power-on; the link state is never 0, which is undefined; the blob ends where its \
                 size says",
        answers: "vfio.h:373-420; mbochs.c starts with neither",
        matches: |c| {
            c.is_mbochs() && c.differs_only_in(&[Part::Window, Part::Edid]) && c.kernel_as_predicted()
        },
    },
    Deviation {
        id: "edid-validated",
        reason: "a write to the EDID region that cannot take effect is refused: read-only registers (EPERM), undefined link \
                 states, sizes and places outside the blob (EINVAL)",
        answers: "vfio.h:373-420; mbochs.c:403-439 ignores them silently or takes any value",
        matches: |c| {
            c.is_mbochs()
                && c.op() == "pwrite"
                && (0x2000..0x3000).contains(&c.offset())
                && match c.field {
                    "ret" => c.kernel == c.len().to_string() && c.ours == "-1",
                    "errno" => c.kernel == "0" && matches!(c.ours, "EPERM" | "EINVAL"),
                    _ => false,
                }
        },
    },
    Deviation {
        id: "dispi-registers",
        reason: "the ID register latches 0xb0c0 to 0xb0c5 only; GETCAPS reports limits; the memory size is read-only",
        answers: "QEMU docs/specs/standard-vga.rst; mbochs.c:336-401 stores any value in any of the eleven registers",
        matches: |c| {
            c.differs_only_in(&[Part::Dispi]) && c.dispi_reads_as_expected(true) && c.kernel_as_predicted()
        },
    },
    Deviation {
        id: "qext-registers",
        reason: "the qext registers are there: a size of 8, and the byte order",
        answers: "QEMU docs/specs/standard-vga.rst; mbochs.c reads 0",
        matches: |c| {
            c.differs_only_in(&[Part::Qext]) && c.qext_reads_as_expected() && c.kernel_as_predicted()
        },
    },
    Deviation {
        id: "vram-by-offset",
        reason: "pread and pwrite reach the video memory where they say",
        answers: "mdpy.c:191 always reaches its first bytes; mbochs.c:480 is two pages off",
        matches: |c| {
            let read = c.op() == "pread" && c.field == "data";
            // The recorder stored these bytes through a mapping, at 0x2000 of the video memory, which is no call and thus no
            // record. mbochs finds them at 0.
            let stored = c.is_mbochs() && read && c.offset() == 0x3000 && c.values("88776655", "00000000");
            let elsewhere = c.differs_only_in(&[Part::Vram]) && c.kernel_as_predicted();
            let mapped = c.op() == "mapped_after_pwrite_0x3000" || c.is("mmap", "first16");
            stored || elsewhere || mapped && c.kernel_as_predicted()
        },
    },
];

/// The deviation that a difference is, if it is one.
pub(super) fn find(context: &Context<'_>) -> Option<&'static Deviation> {
    DEVIATIONS.iter().find(|deviation| (deviation.matches)(context))
}

/// The list as a page of the book.
#[must_use]
pub fn render() -> String {
    let mut page = String::from(
        "# Deviations\n\nWhere the sample devices answer otherwise than the kernel's `mdpy` and `mbochs` (Linux 6.12), on \
         purpose. This page is rendered from the list in `mdev-sample/src/replay/deviations.rs`, which `mdev-sample replay` \
         obeys: what a recording shows and this list does not cover is a mismatch. Citations are of Linux 6.12; `vfio.h` is \
         `include/uapi/linux/vfio.h`, `mdpy.c` and `mbochs.c` are in `samples/vfio-mdev`.\n",
    );
    for Deviation { id, reason, answers, .. } in DEVIATIONS {
        page.push_str(&format!("\n## {id}\n\nOurs: {reason}.\n\nAnswers: {answers}.\n"));
    }
    page
}
