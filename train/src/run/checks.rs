//! Ranges of settings, checked alike in every family. Each takes flags and their values and names the first that does
//! not fit.

/// Why settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value out of range.
    #[error("--{flag} is {value}; {allowed} are allowed")]
    Range {
        /// The flag, in our spelling.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Values that exclude each other.
    #[error("--{flag} does not go with --{other}: {why}")]
    Conflict {
        /// One flag.
        flag: &'static str,
        /// The other.
        other: &'static str,
        /// Why not.
        why: &'static str,
    },
}

/// What becomes of a setting that only the reference has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is another name for this setting.
    Renamed(&'static str),
    /// It does nothing here; a note gives the reason.
    Ignored(&'static str),
    /// These values, in lower case, do nothing here, and a note gives the reason; any other is refused for it.
    IgnoredIf(&'static [&'static str], &'static str),
    /// These values, in lower case, have no effect and are accepted; any other is refused for this reason.
    Only(&'static [&'static str], &'static str),
}

/// The error of a value out of range.
pub(crate) fn range(flag: &'static str, value: impl ToString, allowed: impl Into<String>) -> ConfigError {
    ConfigError::Range { flag, value: value.to_string(), allowed: allowed.into() }
}

fn all<const N: usize>(
    values: [(&'static str, f64); N],
    fits: impl Fn(f64) -> bool,
    allowed: &str,
) -> Result<(), ConfigError> {
    match values.into_iter().find(|(_, value)| !(value.is_finite() && fits(*value))) {
        Some((flag, value)) => Err(range(flag, value, allowed)),
        None => Ok(()),
    }
}

/// Finite numbers above 0.
pub(crate) fn positive<const N: usize>(values: [(&'static str, f64); N]) -> Result<(), ConfigError> {
    all(values, |value| value > 0.0, "numbers above 0")
}

/// Finite numbers, 0 among them.
pub(crate) fn not_negative<const N: usize>(values: [(&'static str, f64); N]) -> Result<(), ConfigError> {
    all(values, |value| value >= 0.0, "numbers from 0")
}

/// Probabilities and decays: 0 to less than 1.
pub(crate) fn below_one<const N: usize>(values: [(&'static str, f64); N]) -> Result<(), ConfigError> {
    all(values, |value| (0.0..1.0).contains(&value), "0 to less than 1")
}

/// Shares between 0 and 1, both excluded.
pub(crate) fn shares<const N: usize>(values: [(&'static str, f64); N]) -> Result<(), ConfigError> {
    all(values, |value| value > 0.0 && value < 1.0, "numbers between 0 and 1")
}

/// Numbers from `from` to `to`, both included.
pub(crate) fn between(flag: &'static str, value: f64, [from, to]: [f64; 2]) -> Result<(), ConfigError> {
    all([(flag, value)], |value| (from..=to).contains(&value), &format!("{from} to {to}"))
}

/// Whole numbers, each with its smallest and largest allowed value; `usize::MAX` means no upper bound.
pub(crate) fn counts<const N: usize>(values: [(&'static str, usize, usize, usize); N]) -> Result<(), ConfigError> {
    match values.into_iter().find(|(_, value, from, to)| !(from..=to).contains(&value)) {
        Some((flag, value, from, usize::MAX)) => Err(range(flag, value, format!("whole numbers from {from}"))),
        Some((flag, value, from, to)) => Err(range(flag, value, format!("whole numbers from {from} to {to}"))),
        None => Ok(()),
    }
}

/// The upper end of a span whose lower one is the value of `other`.
pub(crate) fn from(flag: &'static str, value: f64, (other, from): (&str, f64)) -> Result<(), ConfigError> {
    all([(flag, value)], |value| value >= from, &format!("numbers from --{other}"))
}

/// The folder of a face set, and the shares of its people that train and validate, which may be everybody.
pub(crate) fn face_set(folder: &str, [train_ratio, val_ratio]: [f64; 2]) -> Result<(), ConfigError> {
    if folder.trim().is_empty() {
        return Err(range("data-dir", "empty", "folders of a face set"));
    }
    shares([("train-ratio", train_ratio), ("val-ratio", val_ratio)])?;
    if train_ratio + val_ratio > 1.0 + 1e-9 {
        let why = "together they are more than everybody";
        return Err(ConfigError::Conflict { flag: "train-ratio", other: "val-ratio", why });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A flag with its dashes, a word of its value, of what is allowed, or of the flag it excludes, and what is set
    /// wrong.
    pub type Wrong<'a, C> = (&'a str, &'a str, fn(&mut C));

    /// That each change to settings that pass is refused, for this flag.
    pub fn refused<C: Clone>(good: &C, check: fn(&C) -> Result<(), ConfigError>, cases: &[Wrong<'_, C>]) {
        check(good).unwrap();
        for (flag, word, change) in cases {
            let mut config = good.clone();
            change(&mut config);
            let (found, details) = match check(&config).unwrap_err() {
                ConfigError::Range { flag, value, allowed } => (flag, [value, allowed]),
                ConfigError::Conflict { flag, other, why } => (flag, [other.to_owned(), why.to_owned()]),
            };
            assert_eq!(format!("--{found}"), *flag, "{word}");
            assert!(details.iter().any(|detail| detail.contains(word)), "{flag} {word}: {details:?}");
        }
    }

    #[test]
    fn each_names_the_first_that_does_not_fit() {
        let text = |found: Result<(), ConfigError>| found.unwrap_err().to_string();
        assert_eq!(text(positive([("a", 1.0), ("b", 0.0), ("c", -1.0)])), "--b is 0; numbers above 0 are allowed");
        assert_eq!(text(not_negative([("a", 0.0), ("b", f64::NAN)])), "--b is NaN; numbers from 0 are allowed");
        assert_eq!(text(below_one([("a", 1.0)])), "--a is 1; 0 to less than 1 are allowed");
        assert_eq!(text(shares([("a", 0.0)])), "--a is 0; numbers between 0 and 1 are allowed");
        assert_eq!(text(between("a", 2.5, [0.0, 2.0])), "--a is 2.5; 0 to 2 are allowed");
        assert_eq!(text(counts([("a", 1, 1, 2), ("b", 3, 1, 2)])), "--b is 3; whole numbers from 1 to 2 are allowed");
        assert_eq!(text(counts([("a", 0, 1, usize::MAX)])), "--a is 0; whole numbers from 1 are allowed");
        assert_eq!(text(from("a", 1.0, ("b", 2.0))), "--a is 1; numbers from --b are allowed");
        assert!(text(face_set("faces", [0.9, 0.2])).contains("more than everybody"));
        assert_eq!(text(face_set(" ", [0.7, 0.3])), "--data-dir is empty; folders of a face set are allowed");
        assert_eq!(face_set("faces", [0.7, 0.3]), Ok(()));
        assert_eq!(
            positive([("a", f64::INFINITY)]).unwrap_err().to_string(),
            "--a is inf; numbers above 0 are allowed"
        );
    }
}
