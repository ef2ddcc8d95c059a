//! What a viewer says once it is in.

use crate::input::Pointer;
use crate::rfb::encodings::Encodings;
use crate::rfb::message::ClientMessage;
use crate::rfb::pixel_format::PixelFormat;
use crate::rfb::server_message::{END_OF_CONTINUOUS_UPDATES, server_fence, xvp_fail};

use super::screen::union;
use super::{Goodbye, Room, Viewer, told};

impl Viewer {
    pub(super) fn obey(&mut self, message: ClientMessage, room: &mut Room<'_>) -> Result<(), Goodbye> {
        match message {
            ClientMessage::SetPixelFormat(bytes) => {
                self.format = PixelFormat::parse(&bytes)?;
                if let Some(colours) = self.format.colour_map_message() {
                    self.output.push(&colours);
                }
                self.news.cursor |= self.draws_cursor();
            }
            ClientMessage::SetEncodings(list) => self.set_encodings(&list),
            ClientMessage::FramebufferUpdateRequest { incremental, rect } => {
                if !incremental {
                    self.dirty.add(rect);
                }
                // A second request before an update is one for both parts; whoever asks twice gets more, not less.
                self.request = Some(self.request.map_or(rect, |earlier| union(earlier, rect)));
            }
            ClientMessage::Key { key, down } => {
                room.is_active = true;
                if let Some(sink) = &mut room.sink {
                    self.held.key(key, down);
                    told(sink.key(key, down));
                }
            }
            ClientMessage::Pointer { x, y, buttons } => {
                room.is_active = true;
                let (width, height) = (self.size.0.into(), self.size.1.into());
                if let Some(sink) = &mut room.sink {
                    let pointer = Pointer { x: x.into(), y: y.into(), width, height, buttons };
                    self.held.pointer(pointer);
                    told(sink.pointer(pointer));
                }
            }
            // The guest has no clipboard that we could reach.
            ClientMessage::CutText { .. } => {}
            ClientMessage::EnableContinuousUpdates { enable, rect } => {
                if self.continuous.is_some() && !enable {
                    self.output.push(&END_OF_CONTINUOUS_UPDATES);
                }
                self.continuous = enable.then_some(rect);
            }
            ClientMessage::Fence(fence) => {
                if let Some(answer) = fence.answer() {
                    self.output.push(&server_fence(&answer));
                }
            }
            ClientMessage::Xvp { version, .. } => self.output.push(&xvp_fail(version)),
            ClientMessage::SetDesktopSize { width, height, .. } => {
                room.is_active = true;
                room.resize = Some((width, height));
            }
        }
        Ok(())
    }

    fn set_encodings(&mut self, list: &[i32]) {
        let before = std::mem::replace(&mut self.encodings, Encodings::from_list(list));
        let now = &self.encodings;
        if now.continuous_updates && !before.continuous_updates {
            self.output.push(&END_OF_CONTINUOUS_UPDATES);
        }
        if now.extended_mouse_buttons && !before.extended_mouse_buttons {
            self.parser.enable_extended_buttons();
            self.news.extended_buttons = true;
        }
        self.news.extended_key |= now.qemu_extended_key && !before.qemu_extended_key && self.holds_input;
        self.news.size |= now.extended_desktop_size && !before.extended_desktop_size;
        // It may have another by now.
        self.news.name |= now.desktop_name && !before.desktop_name;
        let drew = self.holds_input && (before.cursor || before.cursor_with_alpha);
        if drew != self.draws_cursor() {
            self.news.cursor = true;
            self.dirty.add_all();
        }
    }
}
