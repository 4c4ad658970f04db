//! Templates as rows of a collection, and questions as Milvus's expressions.

use std::collections::{BTreeMap, BTreeSet};

use metrics::Rows;
use milvus::v2::types::{CollectionSchema, DataType, FieldData, FieldSchema, QueryResults};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{Columns, Filter, NewTemplate, Template, TemplateId};

pub(super) const ID: &str = "id";
pub(super) const SUBJECT: &str = "subject";
pub(super) const CAMERA: &str = "camera";
pub(super) const TAKEN: &str = "taken";
pub(super) const TAGS: &str = "tags";
pub(super) const WORDS: &str = "words";
pub(super) const SOURCE: &str = "source";
pub(super) const VALUES: &str = "values";

/// What a template is read from.
pub(super) const ABOUT: [&str; 6] = [ID, SUBJECT, CAMERA, TAKEN, WORDS, SOURCE];

/// Tags of a template: places in the array of a row.
pub(super) const MAX_TEMPLATE_TAGS: usize = 64;

/// Three bytes of text for each byte of a name or tag.
const MAX_ENCODED: u32 = 3 * 1024;

/// Bytes of the longest text of Milvus.
pub(super) const MAX_TEXT: u32 = 65_535;

/// No camera, no time: values that no template has.
const NO_CAMERA: i64 = -1;
const NO_TIME: i64 = i64::MIN;

/// Names are stored so that they need no quotes in an expression, whatever a server makes of quotes: letters, digits
/// and these stay readable, every other byte is `%` and two digits.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b' ').remove(b'@');

pub(super) fn schema(dim: usize) -> CollectionSchema {
    let field = |name: &str, kind| FieldSchema::new().name(name).data_type(kind);
    CollectionSchema::new()
        .enable_dynamic_field(false)
        .add_field(field(ID, DataType::Int64).primary_key(true).auto_id(false))
        .add_field(field(SUBJECT, DataType::VarChar).max_length(MAX_ENCODED))
        .add_field(field(CAMERA, DataType::Int64))
        .add_field(field(TAKEN, DataType::Int64))
        .add_field(
            field(TAGS, DataType::Array)
                .element_type(DataType::VarChar)
                .max_capacity(MAX_TEMPLATE_TAGS as u32)
                .max_length(MAX_ENCODED),
        )
        // The tags once more, to be read: the client cannot read arrays of Milvus 2.3, which does not say of what they
        // are.
        .add_field(field(WORDS, DataType::VarChar).max_length(MAX_TEXT))
        .add_field(field(SOURCE, DataType::VarChar).max_length(MAX_TEXT))
        .add_field(field(VALUES, DataType::FloatVector).dimension(dim as u32))
}

/// Columns of `templates`, whose ids count from `first`, with rows `from` and on of `values`.
pub(super) fn columns(first: i64, templates: &[NewTemplate], values: Rows<'_>, from: usize) -> Vec<FieldData> {
    let ids = (first..).take(templates.len()).collect();
    let subject = |template: &NewTemplate| template.subject.as_deref().map(encoded).unwrap_or_default();
    let tags = |template: &NewTemplate| template.tags.iter().map(|tag| encoded(tag)).collect();
    vec![
        FieldData::int64(ID, ids),
        FieldData::varchar(SUBJECT, templates.iter().map(subject).collect()),
        FieldData::int64(CAMERA, templates.iter().map(|one| one.camera.map_or(NO_CAMERA, i64::from)).collect()),
        FieldData::int64(TAKEN, templates.iter().map(|one| one.taken.unwrap_or(NO_TIME)).collect()),
        FieldData::array_varchar(TAGS, templates.iter().map(tags).collect()),
        FieldData::varchar(WORDS, templates.iter().map(|template| words(&template.tags)).collect()),
        FieldData::varchar(SOURCE, templates.iter().map(|one| one.source.clone()).collect()),
        FieldData::float_vector(VALUES, (from..from + templates.len()).map(|row| values.row(row).to_vec()).collect()),
    ]
}

/// Columns of a row that is no template: its text says what it is, and no search sees it because its id is below 0.
pub(super) fn mark(id: i64, text: String, dim: usize) -> Vec<FieldData> {
    let mut values = vec![0.0; dim];
    values[0] = 1.0;
    vec![
        FieldData::int64(ID, vec![id]),
        FieldData::varchar(SUBJECT, vec![String::new()]),
        FieldData::int64(CAMERA, vec![NO_CAMERA]),
        FieldData::int64(TAKEN, vec![NO_TIME]),
        FieldData::array_varchar(TAGS, vec![Vec::new()]),
        FieldData::varchar(WORDS, vec![String::new()]),
        FieldData::varchar(SOURCE, vec![text]),
        FieldData::float_vector(VALUES, vec![values]),
    ]
}

/// A column of an answer; the error says what is missing.
pub(super) fn column<'a, T>(
    answer: &'a QueryResults,
    name: &str,
    read: impl Fn(&'a FieldData) -> Option<&'a [T]>,
) -> Result<&'a [T], String> {
    let rows = answer.get_row_count();
    let values: &[T] = match answer.get_output_field(name) {
        Some(field) => read(field).ok_or_else(|| format!("column `{name}` of the answer has another type"))?,
        None => &[],
    };
    if values.len() as u64 != rows {
        return Err(format!("column `{name}` of the answer has {} values for {rows} rows", values.len()));
    }
    Ok(values)
}

pub(super) fn templates(answer: &QueryResults) -> Result<Vec<Template>, String> {
    let ids = column(answer, ID, FieldData::as_int64)?;
    let subjects = column(answer, SUBJECT, FieldData::as_varchar)?;
    let cameras = column(answer, CAMERA, FieldData::as_int64)?;
    let times = column(answer, TAKEN, FieldData::as_int64)?;
    let tags = column(answer, WORDS, FieldData::as_varchar)?;
    let sources = column(answer, SOURCE, FieldData::as_varchar)?;
    let template = |row: usize| -> Result<Template, String> {
        let camera = (cameras[row] != NO_CAMERA).then(|| u32::try_from(cameras[row]));
        Ok(Template {
            id: TemplateId(u64::try_from(ids[row]).map_err(|_| format!("{} is no template's id", ids[row]))?),
            about: NewTemplate {
                subject: (!subjects[row].is_empty()).then(|| decoded(&subjects[row])).transpose()?,
                camera: camera.transpose().map_err(|_| format!("{} is no camera", cameras[row]))?,
                taken: (times[row] != NO_TIME).then_some(times[row]),
                tags: tags[row].split(',').filter(|tag| !tag.is_empty()).map(decoded).collect::<Result<_, _>>()?,
                source: sources[row].clone(),
            },
        })
    };
    (0..ids.len()).map(template).collect()
}

/// Rows as numbers, each subject by its number in `names`.
pub(super) fn numbers(answer: &QueryResults, names: &BTreeMap<String, u32>) -> Result<Vec<Columns>, String> {
    let ids = column(answer, ID, FieldData::as_int64)?;
    let subjects = column(answer, SUBJECT, FieldData::as_varchar)?;
    let cameras = column(answer, CAMERA, FieldData::as_int64)?;
    let times = column(answer, TAKEN, FieldData::as_int64)?;
    let row = |row: usize| Columns {
        id: TemplateId(ids[row].unsigned_abs()),
        subject: names.get(&subjects[row]).copied(),
        camera: u32::try_from(cameras[row]).ok(),
        taken: (times[row] != NO_TIME).then_some(times[row]),
    };
    Ok((0..ids.len()).map(row).collect())
}

/// Tags in one text; a comma in a tag is encoded.
pub(super) fn words(tags: &[String]) -> String {
    tags.iter().map(|tag| encoded(tag)).collect::<Vec<_>>().join(",")
}

pub(super) fn encoded(name: &str) -> String {
    utf8_percent_encode(name, PLAIN).to_string()
}

fn decoded(text: &str) -> Result<String, String> {
    let name = percent_decode_str(text).decode_utf8().map_err(|_| format!("{text:?} is no stored name"))?;
    Ok(name.into_owned())
}

/// What the templates that pass `filter` fulfil besides a range of ids: `` or ` and …`. None if no template can.
pub(super) fn condition(filter: &Filter) -> Option<String> {
    let mut text = String::new();
    let list = |words: BTreeSet<String>| words.into_iter().collect::<Vec<_>>().join(", ");
    // Nobody has an empty name: an empty text is somebody without one.
    let quoted = |names: &[String]| -> BTreeSet<String> {
        names.iter().filter(|name| !name.is_empty()).map(|name| format!("\"{}\"", encoded(name))).collect()
    };
    if let Some(subjects) = &filter.subjects {
        let subjects = Some(quoted(subjects)).filter(|names| !names.is_empty())?;
        text += &format!(" and {SUBJECT} in [{}]", list(subjects));
    }
    if let Some(cameras) = &filter.cameras {
        let cameras: BTreeSet<String> = cameras.iter().map(u32::to_string).collect();
        let cameras = Some(cameras).filter(|cameras| !cameras.is_empty())?;
        text += &format!(" and {CAMERA} in [{}]", list(cameras));
    }
    if filter.from.is_some() || filter.until.is_some() {
        // The least time there is would be somebody without one; and it is a number that not every server reads.
        text += &format!(" and {TAKEN} >= {}", filter.from.unwrap_or(NO_TIME).max(NO_TIME + 1));
    }
    if let Some(until) = filter.until {
        let until = Some(until).filter(|until| *until > NO_TIME + 1)?;
        text += &format!(" and {TAKEN} < {until}");
    }
    if !filter.tags.is_empty() {
        let tags = Some(quoted(&filter.tags)).filter(|_| filter.tags.iter().all(|tag| !tag.is_empty()))?;
        text += &format!(" and array_contains_all({TAGS}, [{}])", list(tags));
    }
    Some(text)
}

/// Ids above `after` up to `upto`, with a condition of [`condition`].
pub(super) fn within(after: u64, upto: u64, condition: &str) -> String {
    format!("{ID} > {after} and {ID} <= {upto}{condition}")
}

/// One of these ids, which are not none.
pub(super) fn one_of(ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    format!("{ID} in [{}]", ids.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_no_quotes_and_come_back() {
        for name in ["Müller, \"Anna\"; DROP TABLE", "a\\\" or id > 0", "%41", "李雷", "x' ] or true [", "a b-c_d.e@f"]
        {
            let text = encoded(name);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_. @%".contains(&byte)), "{text}");
            assert_eq!(decoded(&text).unwrap(), name);
        }
        assert!(decoded("%ff").is_err());
    }

    #[test]
    fn filters_become_expressions() {
        let none = Filter::default;
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (filter, wanted) in [
            (none(), Some("")),
            (Filter { subjects: Some(vec![]), ..none() }, None),
            (Filter { subjects: Some(words(&[""])), ..none() }, None),
            (Filter { subjects: Some(words(&["b\"", "a", "a"])), ..none() }, Some(" and subject in [\"a\", \"b%22\"]")),
            (Filter { cameras: Some(vec![]), ..none() }, None),
            (Filter { cameras: Some(vec![u32::MAX]), ..none() }, Some(" and camera in [4294967295]")),
            (Filter { from: Some(i64::MIN), ..none() }, Some(" and taken >= -9223372036854775807")),
            (Filter { until: Some(5), ..none() }, Some(" and taken >= -9223372036854775807 and taken < 5")),
            (Filter { until: Some(i64::MIN), ..none() }, None),
            (Filter { from: Some(3), until: Some(5), ..none() }, Some(" and taken >= 3 and taken < 5")),
            (Filter { tags: words(&["a", ""]), ..none() }, None),
            (Filter { tags: words(&["b", "a"]), ..none() }, Some(" and array_contains_all(tags, [\"a\", \"b\"])")),
        ] {
            assert_eq!(condition(&filter).as_deref(), wanted, "{filter:?}");
        }
        assert_eq!(within(3, 9, " and x"), "id > 3 and id <= 9 and x");
        assert_eq!(one_of(&[3, -1]), "id in [3, -1]");
    }
}
