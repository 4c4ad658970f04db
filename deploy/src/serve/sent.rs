//! What a request holds: pictures and fields, in any of the forms that are taken.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;

use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Query, Request};
use axum::http::{HeaderMap, Uri, header, request};
use base64::Engine as _;
use bytes::Bytes;
use contract::preprocess::{self, Header, PictureError};
use contract::{InputSpec, PictureSpec};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::error::Problem;
use super::limits::{Admission, Held};
use super::state::App;
use crate::quality::Quality;
use crate::runtime::Model;

/// Name of pictures for models of one input.
const PICTURE: &str = "picture";

/// Bytes of a field that is no picture.
const LARGEST_FIELD: usize = 64 << 10;

/// Longest edge of a small picture.
const SMALL: u32 = 256;

/// Fields of the address and of the body, each with its values.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    values: BTreeMap<String, Vec<String>>,
    allowed: &'static [&'static str],
}

impl Fields {
    /// Those of the address.
    pub(crate) fn of(uri: &Uri, allowed: &'static [&'static str]) -> Result<Self, Problem> {
        let mut own = Self { values: BTreeMap::new(), allowed };
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|problem| Problem::malformed("query", problem.body_text()))?;
        pairs.into_iter().try_for_each(|(name, value)| own.add(name, value))?;
        Ok(own)
    }

    fn add(&mut self, name: String, value: String) -> Result<(), Problem> {
        if !self.allowed.contains(&name.as_str()) {
            let allowed = if self.allowed.is_empty() { "none".to_owned() } else { self.allowed.join(", ") };
            return Err(Problem::unfit("fields", "there is no such field here").found(name).allowed(allowed));
        }
        if value.len() > LARGEST_FIELD {
            let found = format!("{} bytes", value.len());
            let long = Problem::unfit(format!("field `{name}`"), "this is too long");
            return Err(long.found(found).allowed(format!("{LARGEST_FIELD} bytes")));
        }
        self.values.entry(name).or_default().push(value);
        Ok(())
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> &[String] {
        debug_assert!(self.allowed.contains(&name), "{name} is not allowed, so it never comes");
        self.values.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The value of a field that comes once at most.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.all(name) {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            more => {
                let found = format!("{} times", more.len());
                Err(Problem::unfit(format!("field `{name}`"), "this comes once at most").found(found).allowed("once"))
            }
        }
    }

    /// The value of a field as something that `fits`.
    pub(crate) fn read<T: FromStr>(
        &self,
        name: &str,
        allowed: &str,
        fits: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, Problem> {
        self.one(name)?.map(|text| read(name, text, allowed, &fits)).transpose()
    }

    /// The values of a field that may come more than once.
    pub(crate) fn read_all<T: FromStr>(&self, name: &str, allowed: &str) -> Result<Vec<T>, Problem> {
        self.all(name).iter().map(|text| read(name, text, allowed, &|_| true)).collect()
    }

    /// The time of a field, in milliseconds since 1970.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>, Problem> {
        let wrong = |problem| Problem::unfit(format!("field `{name}`"), "this is no time").allowed(problem);
        self.one(name)?.map(|text| crate::time::read(text).map_err(wrong)).transpose()
    }

    /// The name of a person.
    pub(crate) fn identity(&self, name: &str) -> Result<Option<String>, Problem> {
        self.one(name)?.map(|text| identity(name, text)).transpose()
    }
}

fn read<T: FromStr>(name: &str, text: &str, allowed: &str, fits: &dyn Fn(&T) -> bool) -> Result<T, Problem> {
    let wrong = || Problem::unfit(format!("field `{name}`"), "this is out of range").found(text).allowed(allowed);
    text.parse().ok().filter(fits).ok_or_else(wrong)
}

fn identity(field: &str, text: &str) -> Result<String, Problem> {
    datasets::identity_name(text).map_err(|problem| {
        let problem = problem.to_string();
        Problem::unfit(format!("field `{field}`"), problem).found(text).allowed("letters, none of them invisible")
    })
}

/// A picture as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// Name of its part; none for the body itself, or for one of a list.
    part: Option<String>,
    bytes: Bytes,
}

/// What a request holds.
pub(crate) struct Sent {
    pub(crate) fields: Fields,
    pictures: Vec<Picture>,
    held: Held,
}

impl Sent {
    /// Reads a request to the end.
    pub(crate) async fn read(app: &App, request: Request, allowed: &'static [&'static str]) -> Result<Self, Problem> {
        let mut held = Held::default();
        let (parts, body) = app.admission.body(request, &mut held).await?;
        let mut sent = Self { fields: Fields::of(&parts.uri, allowed)?, pictures: Vec::new(), held };
        let kind = media_type(&parts.headers);
        match kind.as_str() {
            "multipart/form-data" => sent.multipart(app, parts, body).await?,
            "application/json" => sent.json(&app.admission, &body)?,
            kind if kind.starts_with("image/") || kind == "application/octet-stream" => {
                sent.pictures.push(Picture { part: None, bytes: body });
            }
            _ => {
                let allowed = "multipart/form-data, application/json or image/…";
                let unknown = Problem::malformed("header `Content-Type`", "the body has a form that is not read");
                return Err(unknown.found(kind).allowed(allowed));
            }
        }
        sent.few(app)?;
        Ok(sent)
    }

    fn few(&self, app: &App) -> Result<(), Problem> {
        let most = app.config.limits.max_pictures;
        if self.pictures.len() <= most {
            return Ok(());
        }
        let many = Problem::unfit("body", "a request has too many pictures");
        let found = format!("{} pictures", self.pictures.len());
        Err(many.found(found).allowed(format!("{most} pictures")).flag("--max-pictures"))
    }

    async fn multipart(&mut self, app: &App, parts: request::Parts, body: Bytes) -> Result<(), Problem> {
        let wrong = |problem: String| Problem::malformed("body", problem);
        let request = Request::from_parts(parts, Body::from(body));
        let mut parts = Multipart::from_request(request, &()).await.map_err(|no| wrong(no.body_text()))?;
        while let Some(part) = parts.next_field().await.map_err(|no| wrong(no.body_text()))? {
            let name = part.name().unwrap_or_default().to_owned();
            let is_field = self.fields.allowed.contains(&name.as_str());
            let bytes = part.bytes().await.map_err(|no| wrong(no.body_text()))?;
            if is_field {
                let text = String::from_utf8(bytes.to_vec());
                let text = text.map_err(|_| Problem::malformed(format!("field `{name}`"), "this is not UTF-8"))?;
                self.fields.add(name, text)?;
            } else {
                self.pictures.push(Picture { part: Some(name), bytes });
                self.few(app)?;
            }
        }
        Ok(())
    }

    fn json(&mut self, admission: &Admission, body: &[u8]) -> Result<(), Problem> {
        let Object(members) = object(body)?;
        // Base64 has four letters for three bytes.
        admission.take(&mut self.held, body.len() as u64 / 4 * 3, "body")?;
        for (name, member) in members {
            if self.fields.allowed.contains(&name.as_str()) {
                member.texts().into_iter().try_for_each(|text| self.fields.add(name.clone(), text))?;
            } else if name == "pictures" {
                for (at, text) in member.texts().iter().enumerate() {
                    let place = format!("`pictures`, number {}", at + 1);
                    self.pictures.push(Picture { part: None, bytes: from_base64(&place, text)? });
                }
            } else {
                for text in member.texts() {
                    let bytes = from_base64(&format!("`{name}`"), &text)?;
                    self.pictures.push(Picture { part: Some(name.clone()), bytes });
                }
            }
        }
        Ok(())
    }

    /// The pictures as rows of the model, decoded; and the memory that they hold.
    ///
    /// With `keep`, each has a small picture, too. It computes: on a thread that may.
    pub(crate) fn rows(self, app: &App, model: &Model, keep: bool) -> Result<Rows, Problem> {
        let (pictures, _) = model.embedding()?;
        let ports = &model.contract.input;
        let Self { fields, pictures: sent, mut held } = self;
        if sent.is_empty() {
            return Err(Problem::unfit("body", "a picture is needed").found("none").allowed(parts(ports)));
        }
        let by_input = assigned(ports, sent)?;
        let count = by_input.iter().map(Vec::len).max().unwrap_or(0);
        let mut rows: Vec<Row> = (0..count).map(|_| Row::default()).collect();
        for ((port, picture), given) in ports.iter().zip(&pictures).zip(by_input) {
            if given.is_empty() {
                let Some(absent) = port.absent else {
                    let lacks = Problem::unfit("body", format!("a picture for input `{}` is needed", port.name));
                    return Err(lacks.found("none").allowed(parts(ports)));
                };
                for row in &mut rows {
                    row.inputs.push(vec![absent; values(picture)]);
                    row.missing.push(port.name.clone());
                }
                continue;
            }
            if given.len() != count {
                let found = format!("{} of input `{}` and {count} of another", given.len(), port.name);
                return Err(Problem::unfit("body", "each row has a picture for every input").found(found));
            }
            for (at, (row, one)) in rows.iter_mut().zip(given).enumerate() {
                row.decode(app, picture, &place(&port.name, ports, at), &one.bytes, keep, &mut held)?;
            }
        }
        Ok(Rows { fields, rows, held })
    }
}

/// The fields of a request whose body is a JSON object of them.
pub(crate) async fn fields(app: &App, request: Request, allowed: &'static [&'static str]) -> Result<Fields, Problem> {
    let mut held = Held::default();
    let (parts, body) = app.admission.body(request, &mut held).await?;
    let kind = media_type(&parts.headers);
    if kind != "application/json" {
        let unknown = Problem::malformed("header `Content-Type`", "the body has a form that is not read");
        return Err(unknown.found(kind).allowed("application/json"));
    }
    let mut fields = Fields::of(&parts.uri, allowed)?;
    let Object(members) = object(&body)?;
    for (name, member) in members {
        member.texts().into_iter().try_for_each(|text| fields.add(name.clone(), text))?;
    }
    Ok(fields)
}

fn from_base64(place: &str, text: &str) -> Result<Bytes, Problem> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    let wrong = |problem| Problem::malformed(place, format!("this is no picture in base64: {problem}"));
    Ok(bytes.map_err(wrong)?.into())
}

/// Members of a JSON object, and of a list in it: more are refused before they take memory.
const MEMBERS: usize = 256;

/// A JSON object of texts and lists of texts; numbers and truth values are texts.
struct Object(Vec<(String, Member)>);

enum Member {
    Nothing,
    Text(String),
    List(Vec<Member>),
}

impl Member {
    fn texts(self) -> Vec<String> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Text(text) => vec![text],
            Self::List(list) => list.into_iter().flat_map(Self::texts).collect(),
        }
    }
}

fn object(body: &[u8]) -> Result<Object, Problem> {
    serde_json::from_slice(body).map_err(|problem| Problem::malformed("body", problem.to_string()))
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(to, "an object of at most {MEMBERS} members")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() == MEMBERS {
                        return Err(de::Error::invalid_length(MEMBERS + 1, &self));
                    }
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        from.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Member;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(to, "text, a number, true, false, or a list of at most {MEMBERS} of them")
            }

            fn visit_unit<E>(self) -> Result<Member, E> {
                Ok(Member::Nothing)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Member, E> {
                Ok(Member::Text(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Member, E> {
                Ok(Member::Text(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Member, E> {
                Ok(Member::Text(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Member, E> {
                Ok(Member::Text(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Member, E> {
                Ok(Member::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Member, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = list.next_element::<Member>()? {
                    if members.len() == MEMBERS || matches!(member, Member::List(_)) {
                        return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
                    }
                    members.push(member);
                }
                Ok(Member::List(members))
            }
        }
        from.deserialize_any(Any)
    }
}

/// A picture scaled down to fit [`SMALL`], as JPEG.
fn small(place: &str, picture: &image::RgbImage) -> Result<Vec<u8>, Problem> {
    let (width, height) = picture.dimensions();
    let scale = (f64::from(SMALL) / f64::from(width.max(height))).min(1.0);
    let scaled = |size: u32| ((f64::from(size) * scale).round() as usize).max(1);
    let small = preprocess::resize(picture, [scaled(height), scaled(width)], contract::Filter::Bilinear);
    let mut jpeg = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 85);
    let failed = |problem: image::ImageError| Problem::internal(format!("{place}: cannot make it small: {problem}"));
    small.write_with_encoder(encoder).map_err(failed)?;
    Ok(jpeg)
}

/// What the parts of pictures are called.
fn parts(ports: &[InputSpec]) -> String {
    match ports {
        [_] => format!("parts `{PICTURE}`"),
        ports => ports.iter().map(|port| format!("part `{}`", port.name)).collect::<Vec<_>>().join(" and "),
    }
}

/// How messages name a picture.
fn place(input: &str, ports: &[InputSpec], at: usize) -> String {
    if ports.len() == 1 { format!("picture {}", at + 1) } else { format!("{input} {}", at + 1) }
}

fn values(picture: &PictureSpec) -> usize {
    picture.colour.channels() * picture.size[0] * picture.size[1]
}

/// The pictures of each input, in the order they came.
fn assigned(ports: &[InputSpec], sent: Vec<Picture>) -> Result<Vec<Vec<Picture>>, Problem> {
    let mut by_input: Vec<Vec<Picture>> = ports.iter().map(|_| Vec::new()).collect();
    let mut turn = 0;
    for picture in sent {
        let at = match &picture.part {
            // A list goes through the inputs row by row.
            None => {
                turn += 1;
                (turn - 1) % ports.len()
            }
            Some(name) => {
                let plain = ports.len() == 1 && name == PICTURE;
                // The picture of a palm's lines has two names.
                let is = |port: &InputSpec| port.name == *name || (port.name == "palm" && name == "print");
                let at = if plain { Some(0) } else { ports.iter().position(is) };
                at.ok_or_else(|| {
                    Problem::unfit("body", "there is no such field or picture here").found(name).allowed(parts(ports))
                })?
            }
        };
        by_input[at].push(picture);
    }
    Ok(by_input)
}

/// The media type of a body, in lower case and without parameters.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// If a decoder panics on a hostile picture, only that picture is lost.
fn guarded<T>(name: &Path, work: impl FnOnce() -> Result<T, PictureError>) -> Result<T, Problem> {
    let gave_up = || {
        let source = std::io::Error::other("the decoder gave up on it");
        Err(PictureError::Read { path: name.to_owned(), source })
    };
    Ok(catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| gave_up())?)
}

/// Decoded rows, and the memory that they hold.
pub(crate) struct Rows {
    pub(crate) fields: Fields,
    pub(crate) rows: Vec<Row>,
    pub(crate) held: Held,
}

/// The pictures of a row.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Normalised, `[channels, height, width]` of each input.
    pub(crate) inputs: Vec<Vec<f32>>,
    /// Of each picture that was sent, with what is wrong with it.
    pub(crate) quality: Vec<(Quality, Vec<String>)>,
    /// Inputs without a picture.
    pub(crate) missing: Vec<String>,
    /// The first picture, small, as JPEG; where one was asked for.
    pub(crate) small: Option<Vec<u8>>,
}

impl Row {
    fn decode(
        &mut self,
        app: &App,
        input: &PictureSpec,
        place: &str,
        bytes: &[u8],
        keep: bool,
        held: &mut Held,
    ) -> Result<(), Problem> {
        let name = Path::new(place);
        let Header { size: [width, height], memory } = guarded(name, || Header::of(name, bytes))?;
        let most = app.config.limits.max_pixels;
        if u64::from(width) * u64::from(height) > most {
            let large = Problem::unfit(place, "a picture has too many pixels");
            let found = format!("{width}×{height} pixels");
            return Err(large.found(found).allowed(format!("{most} pixels")).flag("--max-pixels"));
        }
        app.admission.take(held, (values(input) * size_of::<f32>()) as u64, place)?;
        // The decoded picture is gone as soon as it is in the network's size.
        let mut decoding = Held::default();
        app.admission.take(&mut decoding, memory, place)?;
        let picture = guarded(name, || Header::decode(name, bytes, input.orientation))?;
        let quality = Quality::measure(&picture, input);
        self.quality.push((quality, quality.problems(input)));
        if keep && self.small.is_none() {
            self.small = Some(small(place, &picture)?);
        }
        let fitted = preprocess::fitted(&picture, input);
        drop(picture);
        drop(decoding);
        let mut normalised = vec![0.0; values(input)];
        preprocess::normalise(&fitted, input, &mut normalised);
        self.inputs.push(normalised);
        Ok(())
    }
}
