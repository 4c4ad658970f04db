//! JSON in which no object has a key twice: readers differ in which of the two they take.

use std::cell::RefCell;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Longest path of a key that is told, in characters.
const TOLD: usize = 200;

/// Reads a value, which belongs to the key `place`, or is the whole document if that is empty. Beside it the path of
/// the first key that is there twice, as messages write it: `input[0].picture.mean`.
pub(super) fn read(text: &str, place: &str) -> serde_json::Result<(Value, Option<String>)> {
    let repeated = RefCell::new(None);
    let mut document = serde_json::Deserializer::from_str(text);
    let root = Path { above: None, step: Step::Key(place) };
    let value = Once { path: &root, repeated: &repeated }.deserialize(&mut document)?;
    document.end()?;
    Ok((value, repeated.into_inner()))
}

/// Where a value is. A path is written out only when it is told: keys may be long, and many.
struct Path<'a> {
    above: Option<&'a Path<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

impl Path<'_> {
    fn text(&self) -> String {
        let above = self.above.map(Path::text).unwrap_or_default();
        match self.step {
            Step::Key(key) if above.is_empty() => key.to_owned(),
            Step::Key(key) => format!("{above}.{key}"),
            Step::Item(at) => format!("{above}[{at}]"),
        }
    }
}

struct Once<'a> {
    path: &'a Path<'a>,
    repeated: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Once<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let path = Path { above: Some(self.path), step: Step::Item(values.len()) };
            match items.next_element_seed(Once { path: &path, repeated: self.repeated })? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = Path { above: Some(self.path), step: Step::Key(&key) };
            let value = entries.next_value_seed(Once { path: &path, repeated: self.repeated })?;
            if fields.contains_key(&key) {
                let tell = || path.text().chars().take(TOLD).collect();
                self.repeated.borrow_mut().get_or_insert_with(tell);
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}
