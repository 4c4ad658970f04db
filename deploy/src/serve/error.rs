//! Why a request is refused: what, where, what was found and what is allowed, and the flag that changes it.

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use contract::preprocess::PictureError;
use gallery::GalleryError;
use serde_json::{Value, json};

use crate::DeployError;

/// A request that is not answered as it was asked.
#[derive(Debug)]
pub(crate) struct Problem(Box<Facts>);

#[derive(Debug)]
struct Facts {
    status: StatusCode,
    what: String,
    place: String,
    found: String,
    allowed: String,
    flag: Option<&'static str>,
    /// Seconds after which it may work.
    again: Option<u64>,
    /// What only the log says: it may name files of this machine.
    cause: Option<String>,
}

/// What the log says about an answer; never what the request held.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) String);

/// The problem in one sentence, for the protocol whose errors are one.
#[derive(Debug, Clone)]
struct Sentence(String);

impl Problem {
    fn new(status: StatusCode, what: impl Into<String>) -> Self {
        let (place, found, allowed) = (String::new(), String::new(), String::new());
        let (what, flag, again, cause) = (what.into(), None, None, None);
        Self(Box::new(Facts { status, what, place, found, allowed, flag, again, cause }))
    }

    fn with(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(&mut self.0);
        self
    }

    /// What was sent cannot be read (400).
    pub(crate) fn malformed(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, what).at(place)
    }

    /// What was sent can be read and is not allowed (422).
    pub(crate) fn unfit(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, what).at(place)
    }

    /// There is no such thing (404).
    pub(crate) fn missing(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, what).at(place)
    }

    /// It does not go with what the service holds (409).
    pub(crate) fn conflict(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, what).at(place)
    }

    /// More bytes than are taken (413).
    pub(crate) fn too_large(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, what).at(place)
    }

    /// The sender was too slow (408).
    pub(crate) fn too_slow(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, what).at(place)
    }

    /// No key, or one that is not known (401).
    pub(crate) fn unknown_key(found: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "this needs a key")
            .at("header `Authorization`")
            .found(found)
            .allowed("`Bearer vitrine_…`, a key of the service's key file")
            .flag("--keys")
    }

    /// The key may not do this (403).
    pub(crate) fn forbidden(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, what).at(place)
    }

    /// A key asks too often (429).
    pub(crate) fn too_often(place: impl Into<String>, what: impl Into<String>, again: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, what).at(place).with(|own| own.again = Some(again))
    }

    /// The service has enough to do (503).
    pub(crate) fn busy(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, what).at(place).with(|own| own.again = Some(1))
    }

    /// What is not the request's fault (500).
    pub(crate) fn internal(cause: impl Into<String>) -> Self {
        let own = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the service failed; its log says why");
        own.with(|own| own.cause = Some(cause.into()))
    }

    /// A method that a path does not have (405).
    pub(crate) fn method(path: &str, found: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method")
            .at(path)
            .found(found)
            .allowed("the methods that the header `Allow` names")
    }

    fn at(self, place: impl Into<String>) -> Self {
        self.with(|own| own.place = place.into())
    }

    pub(crate) fn found(self, found: impl ToString) -> Self {
        // What is sent back is bounded.
        self.with(|own| own.found = found.to_string().chars().take(200).collect())
    }

    pub(crate) fn allowed(self, allowed: impl ToString) -> Self {
        self.with(|own| own.allowed = allowed.to_string())
    }

    pub(crate) fn flag(self, flag: &'static str) -> Self {
        self.with(|own| own.flag = Some(flag))
    }

    /// Why, without anything that was sent.
    pub(crate) fn reason(&self) -> &str {
        &self.0.what
    }

    fn sentence(&self) -> String {
        let Facts { place, what, found, allowed, flag, .. } = &*self.0;
        let mut said = if place.is_empty() { String::new() } else { format!("{place}: ") };
        said += what;
        for (name, value) in [("found", found), ("allowed", allowed)] {
            if !value.is_empty() {
                said += &format!("; {name} {value}");
            }
        }
        said += &flag.map(|flag| format!(" ({flag})")).unwrap_or_default();
        said
    }
}

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Picture(error) => error.into(),
            DeployError::Gallery(error) | DeployError::NoGallery(error) => error.into(),
            other => Self::internal(terminal::sentence(&other)),
        }
    }
}

impl From<GalleryError> for Problem {
    fn from(error: GalleryError) -> Self {
        let said = error.to_string();
        match error {
            GalleryError::NoTemplate { .. } => Self::missing("gallery", said),
            GalleryError::NoPerson { .. } | GalleryError::NoMatch { .. } => Self::missing("gallery", said),
            GalleryError::NotErased { templates, source } => {
                let cause = terminal::sentence(&*source);
                Self::internal(format!("{templates} templates are removed, but not overwritten yet: {cause}"))
            }
            GalleryError::NoSubject { name } => Self::missing("gallery", "this subject is not enrolled").found(name),
            GalleryError::Field { what, value, problem } => {
                Self::unfit(format!("field `{what}`"), "this cannot be stored").found(value).allowed(problem)
            }
            GalleryError::Row { .. } => Self::unfit("picture", said),
            GalleryError::TooMany { .. } => Self::unfit("gallery", said),
            other => Self::internal(terminal::sentence(&other)),
        }
    }
}

impl From<PictureError> for Problem {
    fn from(error: PictureError) -> Self {
        let said = terminal::sentence(&error);
        Self::unfit("picture", said).allowed("a whole JPEG, PNG, WebP, GIF, TIFF, BMP or PNM")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let sentence = self.sentence();
        let Facts { status, what, place, found, allowed, flag, again, cause } = *self.0;
        let mut error = json!({"what": what, "where": place, "found": found, "allowed": allowed});
        if let (Some(flag), Value::Object(error)) = (flag, &mut error) {
            error.insert("flag".into(), flag.into());
        }
        let mut response = (status, Json(json!({"error": error}))).into_response();
        response.extensions_mut().insert(Sentence(sentence));
        if let Some(cause) = cause {
            response.extensions_mut().insert(Cause(cause));
        }
        let headers = response.headers_mut();
        if let Some(again) = again {
            headers.insert(header::RETRY_AFTER, again.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Errors of the Open Inference Protocol are one sentence.
pub(crate) async fn in_a_sentence(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let Some(Sentence(sentence)) = response.extensions().get::<Sentence>().cloned() else { return response };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(json!({"error": sentence}).to_string()))
}
