//! What one of several viewers holds down, so that what it leaves behind can be let go of when it goes.
//!
//! The guest has one keyboard and one pointer; which of the viewers holds a key is known only here.

use std::collections::BTreeSet;

use super::{InputError, InputSink, Key, Pointer, keyboard};

/// What a viewer holds. At most one entry for each key of a keyboard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    keys: BTreeSet<u8>,
    pointer: Option<Pointer>,
}

impl Held {
    /// The viewer pressed a key, or let go of it.
    pub fn key(&mut self, key: Key, down: bool) {
        let Some(code) = keyboard::scancode(key) else { return };
        if down {
            self.keys.insert(code);
        } else {
            self.keys.remove(&code);
        }
    }

    /// The viewer's pointer is there and has these buttons down.
    pub fn pointer(&mut self, pointer: Pointer) {
        self.pointer = (pointer.buttons != 0).then_some(pointer);
    }

    /// Lets go of everything that is not held by one of the others too: the viewer has gone.
    ///
    /// # Errors
    /// The last thing that the sink complains of; everything was tried.
    pub fn release<'a>(
        &self,
        mut others: impl Iterator<Item = &'a Self> + Clone,
        sink: &mut dyn InputSink,
    ) -> Result<(), InputError> {
        let mut result = Ok(());
        for code in &self.keys {
            if !others.clone().any(|other| other.keys.contains(code)) {
                let key = Key { keysym: 0, scancode: Some(u32::from(*code)) };
                result = sink.key(key, false).and(result);
            }
        }
        if let Some(pointer) = self.pointer {
            let still = others.find_map(|other| other.pointer);
            result = sink.pointer(still.unwrap_or(Pointer { buttons: 0, ..pointer })).and(result);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl InputSink for Seen {
        fn key(&mut self, key: Key, down: bool) -> Result<(), InputError> {
            self.0.push(format!("{:x}{}", key.scancode.unwrap(), if down { "+" } else { "-" }));
            Ok(())
        }
        fn pointer(&mut self, pointer: Pointer) -> Result<(), InputError> {
            self.0.push(format!("{},{}:{}", pointer.x, pointer.y, pointer.buttons));
            Ok(())
        }
    }

    fn sym(character: char) -> Key {
        Key { keysym: character.into(), scancode: None }
    }

    fn at(x: u32, buttons: u16) -> Pointer {
        Pointer { x, y: 2, width: 10, height: 10, buttons }
    }

    #[test]
    fn what_only_the_one_who_went_held_comes_up() {
        let (mut gone, mut here) = (Held::default(), Held::default());
        for key in ['a', 'b', 'c'] {
            gone.key(sym(key), true);
        }
        gone.key(sym('c'), false);
        here.key(Key { keysym: 0, scancode: Some(0x30) }, true);
        gone.pointer(at(3, 0b101));
        here.pointer(at(7, 0b001));
        let mut seen = Seen::default();
        gone.release([&here].into_iter(), &mut seen).unwrap();
        assert_eq!(seen.0, ["1e-", "7,2:1"], "b and the left button are held by the other one");
        let mut seen = Seen::default();
        here.release(std::iter::empty(), &mut seen).unwrap();
        assert_eq!(seen.0, ["30-", "7,2:0"]);
    }

    #[test]
    fn who_held_nothing_moves_nothing() {
        let mut held = Held::default();
        held.key(sym('a'), true);
        held.key(sym('A'), false);
        held.pointer(at(3, 1));
        held.pointer(at(4, 0));
        held.key(Key { keysym: 0x0123_4567, scancode: None }, true);
        let mut seen = Seen::default();
        held.release(std::iter::empty(), &mut seen).unwrap();
        assert!(seen.0.is_empty(), "{:?}", seen.0);
    }
}
