//! What a pickle wants to call, found by walking over its operations; nothing is built and nothing is run.
//!
//! The reader of weights never calls anything either, and ignores calls it does not know wherever they do not matter to a
//! tensor. A file that names a function which runs code is refused all the same: it was made to harm another reader.

use std::collections::HashMap;

/// Python modules whose functions no weights file has any business calling.
const DANGEROUS: [&str; 16] = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "shutil",
    "socket",
    "pty",
    "runpy",
    "importlib",
    "ctypes",
    "code",
    "builtins",
    "__builtin__",
    "webbrowser",
    "pickle",
];

/// Built-in types, which hold data and run nothing.
const DATA: [&str; 12] =
    ["set", "frozenset", "list", "dict", "tuple", "bytearray", "bytes", "complex", "int", "float", "bool", "object"];

/// The first dangerous function or class that the pickles at the start of `bytes` name: up to `count` of them, one after another.
/// Operations that are damaged end the walk; what the reader of weights makes of them is its matter.
pub(crate) fn dangerous(bytes: &[u8], count: usize) -> Option<String> {
    let mut walk = Walk { rest: bytes, strings: Vec::new(), on_top: false, memo: HashMap::new() };
    for _ in 0..count {
        loop {
            match walk.step() {
                Some(Step::Name(module, name)) if is_dangerous(&module, &name) => {
                    return Some(format!("{module}.{name}"));
                }
                Some(Step::Stop) => break,
                Some(_) => {}
                None => return None,
            }
        }
    }
    None
}

fn is_dangerous(module: &str, name: &str) -> bool {
    let root = module.split('.').next().unwrap_or_default();
    DANGEROUS.contains(&root) && !(root.contains("builtin") && DATA.contains(&name))
}

/// What one operation does, as far as it matters here.
enum Step {
    /// Names a function or class: module and name.
    Name(String, String),
    /// Ends a pickle.
    Stop,
    /// Anything else.
    Other,
}

struct Walk<'a> {
    rest: &'a [u8],
    /// Strings in the order in which they were put on the stack; the last two are what `STACK_GLOBAL` takes.
    strings: Vec<String>,
    /// Whether the last of them is on top of the stack.
    on_top: bool,
    /// What was remembered, by number: a string, or something else.
    memo: HashMap<u64, Option<String>>,
}

impl<'a> Walk<'a> {
    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(count).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: u64) -> Option<u64> {
        Some(self.take(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn line(&mut self) -> Option<String> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = self.take(end as u64 + 1)?;
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn string(&mut self, length: u64) -> Option<Step> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(text)
    }

    fn push(&mut self, text: String) -> Option<Step> {
        self.strings.push(text);
        self.on_top = true;
        Some(Step::Other)
    }

    fn remember(&mut self, number: u64) -> Option<Step> {
        let text = self.strings.last().filter(|_| self.on_top).cloned();
        self.memo.insert(number, text);
        Some(Step::Other)
    }

    fn recall(&mut self, number: u64) -> Option<Step> {
        match self.memo.get(&number).cloned().flatten() {
            Some(text) => self.push(text),
            None => Some(Step::Other),
        }
    }

    /// One operation of the protocols 0 to 5; none at the end, or when it is not one.
    fn step(&mut self) -> Option<Step> {
        let [operation, ..] = *self.take(1)? else { return None };
        let remembers = matches!(operation, b'q' | b'r' | b'p' | 0x94);
        self.on_top &= remembers;
        let skip = |walk: &mut Self, count| walk.take(count).map(|_| Step::Other);
        match operation {
            b'.' => Some(Step::Stop),
            // GLOBAL, INST.
            b'c' | b'i' => Some(Step::Name(self.line()?, self.line()?)),
            // STACK_GLOBAL.
            0x93 => {
                let name = self.strings.pop()?;
                let module = self.strings.last()?.clone();
                Some(Step::Name(module, name))
            }
            // Strings, bytes and long numbers, by the size of their length.
            b'U' | 0x8c => self.number(1).and_then(|length| self.string(length)),
            b'T' | b'X' => self.number(4).and_then(|length| self.string(length)),
            0x8d => self.number(8).and_then(|length| self.string(length)),
            b'S' | b'V' => {
                let line = self.line()?;
                self.push(line.trim_matches(['\'', '"']).to_owned())
            }
            b'C' | 0x8a => self.number(1).and_then(|length| skip(self, length)),
            b'B' | 0x8b => self.number(4).and_then(|length| skip(self, length)),
            0x8e | 0x96 => self.number(8).and_then(|length| skip(self, length)),
            // The memo.
            b'q' => self.number(1).and_then(|number| self.remember(number)),
            b'r' => self.number(4).and_then(|number| self.remember(number)),
            0x94 => self.remember(self.memo.len() as u64),
            b'h' => self.number(1).and_then(|number| self.recall(number)),
            b'j' => self.number(4).and_then(|number| self.recall(number)),
            b'p' => {
                let number = self.line()?.parse().ok()?;
                self.remember(number)
            }
            b'g' => {
                let number = self.line()?.parse().ok()?;
                self.recall(number)
            }
            // Fixed sizes.
            b'K' | 0x80 | 0x82 => skip(self, 1),
            b'M' | 0x83 => skip(self, 2),
            b'J' | 0x84 => skip(self, 4),
            b'G' | 0x95 => skip(self, 8),
            b'I' | b'L' | b'F' | b'P' => self.line().map(|_| Step::Other),
            // No argument.
            b'('
            | b'0'
            | b'1'
            | b'2'
            | b'N'
            | b'R'
            | b'b'
            | b'd'
            | b'l'
            | b't'
            | b's'
            | b'a'
            | b')'
            | b']'
            | b'}'
            | b'e'
            | b'u'
            | b'o'
            | b'Q'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x92
            | 0x97
            | 0x98 => Some(Step::Other),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python's `pickle.dumps` writes for `{"a": x}`, x reducing to `os.system("id")`, in protocols 0, 2 and 4.
    #[test]
    fn calls_are_found_in_every_protocol() {
        let zero = b"(dp0\nVa\np1\ncposix\nsystem\np2\n(Vid\np3\ntp4\nRp5\ns.";
        let two =
            b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01cposix\nsystem\nq\x02X\x02\x00\x00\x00idq\x03\x85q\x04Rq\x05s.";
        let four = b"\x80\x04\x95$\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94s.";
        for pickle in [&zero[..], &two[..], &four[..]] {
            assert_eq!(dangerous(pickle, 1).as_deref(), Some("posix.system"));
            for end in 0..pickle.len() {
                // Damage must not panic.
                dangerous(&pickle[..end], 1);
            }
        }
    }

    /// Names taken from the memo, where things that are no strings count too.
    #[test]
    fn remembered_names_are_found() {
        let pickle = b"\x80\x04}\x94\x8c\x02os\x94\x8c\x06system\x94]\x940000h\x01h\x02\x93.";
        assert_eq!(dangerous(pickle, 1).as_deref(), Some("os.system"));
    }

    #[test]
    fn what_weights_files_call_is_allowed() {
        let names = [
            "ctorch._utils\n_rebuild_tensor_v2\n",
            "ccollections\nOrderedDict\n",
            "c__builtin__\nset\n",
            "cnumpy\ndtype\n",
        ];
        for name in names {
            assert_eq!(dangerous(format!("{name}.").as_bytes(), 1), None, "{name}");
        }
        assert_eq!(dangerous(b"c__builtin__\neval\n.", 1).as_deref(), Some("__builtin__.eval"));
        assert_eq!(dangerous(b"cos.path\njoin\n.", 1).as_deref(), Some("os.path.join"));
        // Popped off the stack, and in a second pickle.
        assert_eq!(dangerous(b"N.cos\nsystem\n0N.", 2).as_deref(), Some("os.system"));
        assert_eq!(dangerous(b"N.cos\nsystem\n0N.", 1), None);
    }
}
