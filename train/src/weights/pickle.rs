//! Which classes and functions a pickle names, found by walking over its operations; nothing is built and nothing is
//! run.
//!
//! The reader of weights never calls anything either. A file that names what no state dictionary needs is refused all
//! the same: it was made to harm another reader, or holds something else than weights. The list is one of what is
//! allowed, as that of `torch.load(weights_only=True)`.

use std::collections::HashMap;

/// Largest pickle, in bytes: keys and shapes only, the tensors are in files beside it.
pub(super) const MAX_PICKLE: u64 = 64 << 20;

/// Most objects that a pickle may number for later use. A tensor needs about ten.
const MAX_MEMO: usize = 1 << 20;

/// Most operations of all pickles of a file. A tensor needs about 45, and each may become an object of some hundred
/// bytes in the reader.
const MAX_OPERATIONS: usize = 1 << 21;

/// What state dictionaries and the settings beside them are made of. A name that ends in `*` stands for all that begin
/// so, one that begins with `*` for all that end so.
const ALLOWED: &[(&str, &[&str])] = &[
    ("collections", &["OrderedDict", "defaultdict", "Counter"]),
    ("torch._utils", &["_rebuild_*"]),
    ("torch._tensor", &["_rebuild_from_type_v2"]),
    ("torch.nn.parameter", &["Parameter", "Buffer"]),
    ("torch.storage", &["*Storage"]),
    ("torch.cuda", &["*Storage"]),
    ("torch.torch_version", &["TorchVersion"]),
    ("torch.serialization", &["_get_layout"]),
    (
        "torch",
        &[
            "*Storage", "*Tensor", "Size", "device", "float*", "bfloat16", "half", "double", "int*", "uint*", "short",
            "long", "bool", "complex*", "strided",
        ],
    ),
    ("numpy", &["dtype", "ndarray", "float*", "int*", "uint*", "bool*", "str_"]),
    ("numpy.dtypes", &["*DType"]),
    ("numpy.core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy._core.multiarray", &["scalar", "_reconstruct"]),
    ("argparse", &["Namespace"]),
    ("types", &["SimpleNamespace"]),
    ("datetime", &["*"]),
    ("pathlib", &["*Path"]),
    ("pathlib._local", &["*Path"]),
    // How protocol 2 writes bytes, and plain objects.
    ("_codecs", &["encode"]),
    ("copy_reg", &["_reconstructor"]),
    ("copyreg", &["_reconstructor"]),
    ("__builtin__", BUILTINS),
    ("builtins", BUILTINS),
];

/// Built-in types, which hold data and run nothing.
const BUILTINS: &[&str] = &[
    "set",
    "frozenset",
    "list",
    "dict",
    "tuple",
    "bytearray",
    "bytes",
    "str",
    "unicode",
    "complex",
    "int",
    "long",
    "float",
    "bool",
    "object",
    "slice",
    "range",
    "NoneType",
];

fn is_allowed(module: &str, name: &str) -> bool {
    ALLOWED.iter().filter(|(known, _)| *known == module).flat_map(|(_, names)| *names).any(|known| {
        match (known.strip_prefix('*'), known.strip_suffix('*')) {
            (Some(end), _) => name.ends_with(end),
            (None, Some(start)) => name.starts_with(start),
            (None, None) => name == *known,
        }
    })
}

/// Why a pickle is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// It names what no state dictionary needs.
    #[error("it names `{name}`")]
    Named {
        /// The class or function.
        name: String,
        /// Whether it holds a `torch.nn.Module`.
        network: bool,
    },
    /// It ends too early, or holds a byte that is no operation.
    #[error("its pickle ends too early, or is damaged")]
    Damaged,
    /// It has more bytes than [`MAX_PICKLE`].
    #[error("its pickle has more than the {MAX_PICKLE} bytes that are allowed")]
    TooLong,
    /// It has more operations than [`MAX_OPERATIONS`], or numbers more objects than [`MAX_MEMO`].
    #[error("its pickle has more than the {MAX_OPERATIONS} operations or {MAX_MEMO} numbered objects that are allowed")]
    TooMany,
}

/// What was seen in one pickle.
#[derive(Debug, Default)]
pub(super) struct Seen {
    numbers: usize,
    number: u64,
    names: usize,
    class: String,
}

impl Seen {
    /// The number of a pickle that is one number.
    pub(super) fn count(&self) -> Result<u64, Problem> {
        if self.numbers == 1 { Ok(self.number) } else { Err(Problem::Damaged) }
    }

    /// The class of a pickle that names one.
    pub(super) fn class(self) -> Result<String, Problem> {
        if self.names == 1 { Ok(self.class) } else { Err(Problem::Damaged) }
    }
}

/// A walk over a sequence of pickles and the bytes between them. Memory is bounded by [`MAX_MEMO`], whatever
/// the bytes are.
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    /// Whether the bytes may go on where they end here.
    cut: bool,
    operations: usize,
    /// The two strings pushed last, if nothing else was done since but to number them: what `STACK_GLOBAL` takes.
    recent: [Option<&'a [u8]>; 2],
    /// What was numbered: a string, or something else.
    memo: HashMap<u64, Option<&'a [u8]>>,
}

/// What one operation does, as far as it matters here.
enum Step {
    /// Names a function or class: module and name.
    Name(String, String),
    /// Names one by strings that were not pushed just before: no pickler writes that.
    Computed,
    /// Pushes a number, where it is one that counts something.
    Number(u64),
    /// Ends a pickle.
    Stop,
    /// Anything else.
    Other,
}

impl<'a> Walk<'a> {
    /// Starts at the first of `bytes`; where they are more than [`MAX_PICKLE`], they may be cut off.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let cut = bytes.len() as u64 > MAX_PICKLE;
        Self { rest: bytes, cut, operations: 0, recent: [None, None], memo: HashMap::new() }
    }

    /// One pickle, to its end.
    ///
    /// # Errors
    /// The first class or function that no state dictionary needs; or why the end was not reached.
    pub(super) fn pickle(&mut self) -> Result<Seen, Problem> {
        // Each pickle numbers its memo from 0.
        self.memo.clear();
        self.recent = [None, None];
        let (mut seen, mut refused, mut network) = (Seen::default(), None, false);
        loop {
            self.operations += 1;
            if self.operations > MAX_OPERATIONS || self.memo.len() > MAX_MEMO {
                return Err(Problem::TooMany);
            }
            let step = self.step();
            // What every `torch.nn.Module` has.
            network |= self.recent[1] == Some(b"_parameters");
            match step {
                Some(Step::Name(module, name)) => {
                    seen.names += 1;
                    network |= module.starts_with("torch.nn.modules");
                    if !is_allowed(&module, &name) {
                        refused = refused.or(Some(format!("{module}.{name}")));
                    }
                    seen.class = name;
                }
                Some(Step::Computed) => refused = refused.or(Some("a name that the file computes".into())),
                Some(Step::Number(number)) => (seen.number, seen.numbers) = (number, seen.numbers + 1),
                Some(Step::Other) => {}
                end @ (Some(Step::Stop) | None) => {
                    return match (refused, end) {
                        (Some(name), _) => Err(Problem::Named { name, network }),
                        (None, Some(_)) => Ok(seen),
                        (None, None) if self.cut => Err(Problem::TooLong),
                        (None, None) => Err(Problem::Damaged),
                    };
                }
            }
        }
    }

    /// Bytes between pickles.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Problem> {
        self.take(count).map(drop).ok_or(Problem::Damaged)
    }

    /// A number of eight bytes between pickles.
    pub(super) fn fixed(&mut self) -> Result<u64, Problem> {
        self.number(8).ok_or(Problem::Damaged)
    }
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

    fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        Some(&self.take(end as u64 + 1)?[..end])
    }

    fn string(&mut self, length: u64) -> Option<Step> {
        let text = self.take(length)?;
        Some(self.push(text))
    }

    fn push(&mut self, text: &'a [u8]) -> Step {
        self.recent = [self.recent[1], Some(text)];
        Step::Other
    }

    fn remember(&mut self, number: u64) -> Option<Step> {
        self.memo.insert(number, self.recent[1]);
        Some(Step::Other)
    }

    fn recall(&mut self, number: u64) -> Option<Step> {
        match self.memo.get(&number).copied().flatten() {
            Some(text) => Some(self.push(text)),
            None => {
                self.recent = [None, None];
                Some(Step::Other)
            }
        }
    }

    /// One operation of the protocols 0 to 5; none at the end, or when it is not one.
    fn step(&mut self) -> Option<Step> {
        let [operation, ..] = *self.take(1)? else { return None };
        // Strings push themselves, memo operations leave them on top, everything else covers or takes them.
        if !matches!(
            operation,
            b'U' | b'T' | b'X' | b'S' | b'V' | 0x8c | 0x8d | b'q' | b'r' | b'p' | 0x94 | b'h' | b'j' | b'g' | 0x93
        ) {
            self.recent = [None, None];
        }
        let skip = |walk: &mut Self, count| walk.take(count).map(|_| Step::Other);
        match operation {
            b'.' => Some(Step::Stop),
            // GLOBAL, INST.
            b'c' | b'i' => Some(Step::Name(text(self.line()?), text(self.line()?))),
            // STACK_GLOBAL.
            0x93 => Some(match std::mem::take(&mut self.recent) {
                [Some(module), Some(name)] => Step::Name(text(module), text(name)),
                _ => Step::Computed,
            }),
            // Strings, bytes and long numbers, by the size of their length.
            b'U' | 0x8c => self.number(1).and_then(|length| self.string(length)),
            b'T' | b'X' => self.number(4).and_then(|length| self.string(length)),
            0x8d => self.number(8).and_then(|length| self.string(length)),
            b'S' | b'V' => {
                let line = self.line()?;
                let quote = |byte: &u8| matches!(byte, b'\'' | b'"');
                let start = line.iter().position(|byte| !quote(byte)).unwrap_or(line.len());
                let end = line.iter().rposition(|byte| !quote(byte)).map_or(start, |last| last + 1);
                Some(self.push(&line[start..end]))
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
                let number = text(self.line()?).parse().ok()?;
                self.remember(number)
            }
            b'g' => {
                let number = text(self.line()?).parse().ok()?;
                self.recall(number)
            }
            // Numbers.
            b'K' => self.number(1).map(Step::Number),
            b'M' => self.number(2).map(Step::Number),
            b'J' => self.number(4).map(Step::Number),
            b'I' | b'L' => {
                let number = text(self.line()?);
                Some(number.trim_end_matches('L').parse().map_or(Step::Other, Step::Number))
            }
            // Fixed sizes.
            0x80 | 0x82 => skip(self, 1),
            0x83 => skip(self, 2),
            0x84 => skip(self, 4),
            b'G' | 0x95 => skip(self, 8),
            b'F' | b'P' => self.line().map(|_| Step::Other),
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

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is named that should not be, in up to `count` pickles.
    fn refused(bytes: &[u8], count: usize) -> Option<String> {
        let mut walk = Walk::new(bytes);
        let problem = (0..count).find_map(|_| walk.pickle().err())?;
        Some(if let Problem::Named { name, .. } = problem { name } else { problem.to_string() })
    }

    /// What Python's `pickle.dumps` writes for `{"a": x}`, x reducing to `os.system("id")`, in protocols 0, 2 and 4.
    #[test]
    fn calls_are_found_in_every_protocol() {
        let zero = b"(dp0\nVa\np1\ncposix\nsystem\np2\n(Vid\np3\ntp4\nRp5\ns.";
        let two =
            b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01cposix\nsystem\nq\x02X\x02\x00\x00\x00idq\x03\x85q\x04Rq\x05s.";
        let four = b"\x80\x04\x95$\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94\x8c\x05posix\x94\x8c\x06system\x94\
            \x93\x94\x8c\x02id\x94\x85\x94R\x94s.";
        for pickle in [&zero[..], &two[..], &four[..]] {
            assert_eq!(refused(pickle, 1).as_deref(), Some("posix.system"));
            for end in 0..pickle.len() {
                // Damage must not panic.
                refused(&pickle[..end], 1);
            }
        }
    }

    /// Names taken from the memo, where things that are no strings count too.
    #[test]
    fn remembered_names_are_found() {
        let pickle = b"\x80\x04}\x94\x8c\x02os\x94\x8c\x06system\x94]\x940000h\x01h\x02\x93.";
        assert_eq!(refused(pickle, 1).as_deref(), Some("os.system"));
    }

    /// `os` and `system` lie below an allowed pair that is taken off again.
    #[test]
    fn names_cannot_hide_below_others() {
        let pickle = b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x0bcollections\x8c\x0bOrderedDict00\x93.";
        assert!(refused(pickle, 1).is_some());
        assert_eq!(refused(b"\x80\x04\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93.", 1), None);
    }

    /// A string that is remembered once and recalled by two bytes each time took the machine's memory.
    #[test]
    fn recalled_strings_cost_no_memory() {
        let mut pickle = b"\x80\x02X\x00\x00\x10\x00".to_vec();
        pickle.resize(pickle.len() + (1 << 20), b'a');
        pickle.extend(b"q\x00");
        pickle.extend(b"h\x00".repeat(1 << 20));
        pickle.push(b'.');
        // 1 TiB when each recall was a copy.
        assert_eq!(refused(&pickle, 1), None);
        // More numbers than a state dictionary needs end the walk, and are an error.
        let mut numbered = b"\x80\x04".to_vec();
        numbered.extend((0..=MAX_MEMO as u32).flat_map(|number| [&b"r"[..], &number.to_le_bytes()].concat()));
        numbered.push(b'.');
        assert_eq!(Walk::new(&numbered).pickle().unwrap_err(), Problem::TooMany);
        let mut long = vec![b'N'; MAX_OPERATIONS];
        long.push(b'.');
        assert_eq!(Walk::new(&long).pickle().unwrap_err(), Problem::TooMany);
    }

    /// A name behind damage, or behind what is read of a file, is not overlooked: the walk has to reach the end.
    #[test]
    fn a_walk_that_ends_early_is_an_error() {
        for bytes in [&b""[..], b"N", b"N\xffcos\nsystem\n.", b"X\xff\x00\x00\x00a."] {
            assert_eq!(Walk::new(bytes).pickle().unwrap_err(), Problem::Damaged, "{bytes:?}");
        }
        let mut walk = Walk::new(b"N.N");
        walk.pickle().unwrap();
        assert_eq!(walk.pickle().unwrap_err(), Problem::Damaged);
        let mut long = b"B\xff\xff\xff\x7f".to_vec();
        long.resize(MAX_PICKLE as usize + 1, 0);
        assert_eq!(Walk::new(&long).pickle().unwrap_err(), Problem::TooLong);
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
            assert_eq!(refused(format!("{name}.").as_bytes(), 1), None, "{name}");
        }
        assert_eq!(refused(b"c__builtin__\neval\n.", 1).as_deref(), Some("__builtin__.eval"));
        assert_eq!(refused(b"cos.path\njoin\n.", 1).as_deref(), Some("os.path.join"));
        for name in [
            "ctorch\nload\n",
            "ctorch.nn.modules.conv\nConv2d\n",
            "cnumpy\nload\n",
            "ctorch.storage\n_load_from_bytes\n",
        ] {
            assert!(refused(format!("{name}.").as_bytes(), 1).is_some(), "{name}");
        }
        // Popped off the stack, and in a second pickle.
        assert_eq!(refused(b"N.cos\nsystem\n0N.", 2).as_deref(), Some("os.system"));
        assert_eq!(refused(b"N.cos\nsystem\n0N.", 1), None);
    }
}
