//! Enums that files and flags write as words: one table each, from which reading, writing and the help of the command
//! line are made.

/// A word that the enum does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not known; {} are", known.join(", "))]
pub struct UnknownWord {
    /// What was given.
    pub word: String,
    /// The known words.
    pub known: &'static [&'static str],
}

/// An enum that is read and written as words, in any case.
pub trait Word: std::str::FromStr<Err = UnknownWord> + std::fmt::Display {
    /// Every word, in the order of the enum.
    const WORDS: &'static [&'static str];
    /// What each of them means.
    const MEANINGS: &'static [&'static str];
}

/// The known word most like the one that was given, for an error; none where no word is much like it.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// As alike as words have to be for a hint.
    const ALIKE: f64 = 0.7;
    let likeness = |known: &str| strsim::jaro(&word.to_lowercase(), &known.to_lowercase());
    let better = |best: Option<(f64, &'a str)>, word| {
        let like = likeness(word);
        if like > best.map_or(ALIKE, |(best, _)| best) { Some((like, word)) } else { best }
    };
    known.into_iter().fold(None, better).map(|(_, word)| word)
}

/// ` (did you mean `…`?)` with the nearest known word, where one is near.
pub(crate) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |word| format!(" (did you mean `{word}`?)"))
}

/// Every value of an enum of words, in its order.
pub(crate) fn each<W: Word>() -> impl Iterator<Item = W> {
    W::WORDS.iter().map(|word| word.parse().unwrap_or_else(|error| unreachable!("its own words are known: {error}")))
}

/// What a word means.
pub(crate) fn meaning(word: &impl Word) -> &'static str {
    fn of<W: Word>(word: &W) -> Option<&'static str> {
        let word = word.to_string();
        let place = W::WORDS.iter().position(|known| *known == word)?;
        Some(W::MEANINGS[place].trim())
    }
    of(word).expect("its own words are known")
}

/// Makes an enum a [`Word`], which `serde` reads and writes as one. A variant in parentheses is the default.
macro_rules! words {
    (
        $(#[doc = $doc:literal])+
        $name:ident $(($default:ident))? {
            $($(#[doc = $meaning:literal])+ $variant:ident = $word:literal),+ $(,)?
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub enum $name {
            $($(#[doc = $meaning])+ $variant),+
        }

        impl $crate::words::Word for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];
            const MEANINGS: &'static [&'static str] = &[$(concat!($($meaning),+)),+];
        }

        impl $name {
            /// The word.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        $(impl Default for $name {
            fn default() -> Self { Self::$default }
        })?

        impl ::std::str::FromStr for $name {
            type Err = $crate::words::UnknownWord;
            fn from_str(word: &str) -> Result<Self, $crate::words::UnknownWord> {
                $(if word.eq_ignore_ascii_case($word) { return Ok(Self::$variant); })+
                let known = <Self as $crate::words::Word>::WORDS;
                Err($crate::words::UnknownWord { word: word.to_owned(), known })
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::words::UnknownWord;
            fn try_from(word: String) -> Result<Self, $crate::words::UnknownWord> { word.parse() }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String { value.word().to_owned() }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result { f.write_str(self.word()) }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::{Word, hint, nearest};

    #[test]
    fn the_nearest_word_is_named_where_one_is_near() {
        let known = ["LMBN_n", "LMBN_r", "ResNet50", "OSNet", "PCB"];
        for (word, wanted) in [
            ("lmbn-n", Some("LMBN_n")),
            ("LMBN_x", Some("LMBN_n")),
            ("resnet", Some("ResNet50")),
            ("osnett", Some("OSNet")),
            ("pcb6", Some("PCB")),
            ("transformer", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), wanted, "{word}");
        }
        assert_eq!(hint("resnet", known), " (did you mean `ResNet50`?)");
        assert_eq!(hint("transformer", known), "");
    }

    words! {
        /// A colour.
        Colour (Blue) {
            /// That of blood.
            Red = "red",
            /// That of the sky,
            /// by day.
            Blue = "light-blue",
        }
    }

    #[test]
    fn a_word_is_read_in_any_case_and_written_in_one() {
        assert_eq!("Light-BLUE".parse(), Ok(Colour::Blue));
        assert_eq!(Colour::default().to_string(), "light-blue");
        assert_eq!(serde_json::to_string(&Colour::Red).unwrap(), r#""red""#);
        assert_eq!(serde_json::from_str::<Colour>(r#""RED""#).unwrap(), Colour::Red);
        let error = "green".parse::<Colour>().unwrap_err();
        assert_eq!((error.word.as_str(), error.known), ("green", Colour::WORDS));
        assert_eq!(error.to_string(), "`green` is not known; red, light-blue are");
        assert_eq!(Colour::MEANINGS, [" That of blood.", " That of the sky, by day."]);
    }
}
