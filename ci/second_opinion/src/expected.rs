//! The models that rten is known not to run, or not to run right.

use std::collections::BTreeMap;

use crate::opinion::Opinion;

/// What the reason of a model begins with whose answers are known to differ.
const DIFFERS: &str = "differs";

/// Lines `NAME: REASON`; empty ones and those that start with # say nothing.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut expected = BTreeMap::new();
    for line in lines {
        let (name, reason) = line.split_once(": ").ok_or_else(|| format!("`{line}` is not `NAME: REASON`"))?;
        if expected.insert(name.to_owned(), reason.to_owned()).is_some() {
            return Err(format!("`{name}` is listed twice"));
        }
    }
    Ok(expected)
}

/// Sentences about every model that does not do as expected.
pub fn surprises(expected: &BTreeMap<String, String>, opinions: &[(String, Opinion)]) -> Vec<String> {
    let mut surprises: Vec<String> = opinions
        .iter()
        .filter_map(|(name, opinion)| match (opinion, expected.get(name)) {
            (Opinion::Agrees { .. }, None) => None,
            (Opinion::Agrees { .. }, Some(known)) => Some(format!("`{name}` agrees, which was not expected: {known}")),
            (Opinion::Refuses(reason), Some(known)) if reason == known => None,
            (Opinion::Differs(_), Some(known)) if known.starts_with(DIFFERS) => None,
            (Opinion::Refuses(reason), Some(known)) => {
                Some(format!("`{name}` is refused because of `{reason}`, not of `{known}`"))
            }
            (Opinion::Refuses(reason), None) => Some(format!("`{name}` is refused: {reason}")),
            (Opinion::Differs(how), _) => Some(format!("`{name}` differs: {how}")),
        })
        .collect();
    let gone = expected.keys().filter(|name| !opinions.iter().any(|(found, _)| found == *name));
    surprises.extend(gone.map(|name| format!("`{name}` is expected and was not found")));
    surprises
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprises_in_both_directions() {
        let listed = "# why\n\na: no `Foo`\nb: no `Foo`\nc: no `Foo`\nd: no `Foo`\nh: differs: rounds\ni: differs\n";
        let expected = parse(listed).unwrap();
        let opinions = [
            ("a".to_owned(), Opinion::Refuses("no `Foo`".into())),
            ("b".to_owned(), Opinion::Agrees { worst: 0.0, nodes: 1 }),
            ("c".to_owned(), Opinion::Refuses("no `Bar`".into())),
            ("e".to_owned(), Opinion::Agrees { worst: 0.0, nodes: 1 }),
            ("f".to_owned(), Opinion::Refuses("no `Bar`".into())),
            ("g".to_owned(), Opinion::Differs("by 1".into())),
            ("h".to_owned(), Opinion::Differs("by 1".into())),
            ("i".to_owned(), Opinion::Agrees { worst: 0.0, nodes: 1 }),
        ];
        let found = surprises(&expected, &opinions);
        let names: Vec<&str> = found.iter().map(|text| text.split('`').nth(1).unwrap()).collect();
        assert_eq!(names, ["b", "c", "f", "g", "i", "d"], "{found:?}");
        assert!(parse("a").is_err() && parse("a: b\na: b").is_err());
    }
}
