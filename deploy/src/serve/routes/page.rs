//! The page: files that are part of the program. It works without any network.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::serve::error::Problem;

// Names and bytes of the files of the page, in order of their names: `FILES`.
include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// What a page of this service may do: nothing that is not here.
const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What it may ask the browser for.
const PERMISSIONS: &str = "camera=(self), microphone=(), geolocation=()";

/// `GET /`.
pub(super) async fn index(headers: HeaderMap) -> Result<Response, Problem> {
    answer("index.html", &headers)
}

/// `GET /page/{file}`.
pub(super) async fn file(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    answer(&file, &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let Ok(at) = FILES.binary_search_by_key(&name, |(name, _)| name) else {
        return Err(Problem::missing("page", "there is no such file").found(name));
    };
    let bytes = FILES[at].1;
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..16]));
    let mut response = match headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes())
    {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, kind(name))], bytes).into_response(),
    };
    let set = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("permissions-policy"), PERMISSIONS),
        // Asked for again, and sent again only where the program has another one.
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        set.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = tag.parse() {
        set.insert(header::ETAG, tag);
    }
    Ok(response)
}

/// Media type by the ending.
fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" | "md" => "text/plain; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}
