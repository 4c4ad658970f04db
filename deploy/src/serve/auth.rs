//! Who may: keys with roles, and how often each may ask.
//!
//! A key is 256 random bits, so its SHA-256 can be stored as it is: nobody finds it by guessing, however fast. Every
//! stored hash is compared in constant time.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Instant;

use axum::http::{HeaderMap, Uri, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::Problem;
use crate::DeployError;

/// What every key begins with.
pub(crate) const PREFIX: &str = "vitrine_";

/// Bytes of a key file at most.
const LARGEST_FILE: u64 = 1 << 20;

/// What a key may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See who is enrolled, pictures and numbers.
    Read,
    /// Search and verify.
    Match,
    /// Enrol, merge and remove.
    Enrol,
    /// Everything: embeddings, thresholds, the audit log, another model.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Match => "match",
            Self::Enrol => "enrol",
            Self::Admin => "admin",
        })
    }
}

/// A key as it is stored: without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredKey {
    /// Whose it is: what logs call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the whole key, in hexadecimal.
    pub sha256: Hash,
    /// When it was made, in milliseconds since 1970.
    pub made: i64,
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl From<Hash> for String {
    fn from(Hash(bytes): Hash) -> Self {
        hex::encode(bytes)
    }
}

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut bytes = [0; 32];
        let decoded = hex::decode_to_slice(&text, &mut bytes);
        decoded.map(|()| Self(bytes)).map_err(|_| "64 hexadecimal digits are needed".to_owned())
    }
}

impl Hash {
    fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

/// The keys of a service.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// In the order they were made.
    pub keys: Vec<StoredKey>,
}

impl KeyFile {
    /// Reads a file of keys.
    ///
    /// # Errors
    /// If it cannot be read or is none, two keys have one name, or others than its owner may read it.
    pub fn read(path: &Path) -> Result<Self, DeployError> {
        let unreadable = |source| DeployError::Read { path: path.to_owned(), source };
        let wrong = |problem: String| DeployError::Keys { path: path.to_owned(), problem };
        let text = files::read_text_limited(path, LARGEST_FILE).map_err(unreadable)?;
        let own: Self = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("it is none that `deploy keys add` made: {error}")))?;
        let names: BTreeSet<&str> = own.keys.iter().map(|key| key.name.as_str()).collect();
        if names.len() < own.keys.len() {
            return Err(wrong("two keys have the same name".to_owned()));
        }
        Ok(own)
    }

    /// Writes the file, readable by its owner alone.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), DeployError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        Ok(files::write_private(path, text + "\n")?)
    }

    /// Adds a key and returns it: it is not stored and cannot be shown again.
    ///
    /// # Errors
    /// If the name is taken, or the system has no random numbers.
    pub fn add(&mut self, path: &Path, name: &str, role: Role, made: i64) -> Result<String, DeployError> {
        let wrong = |problem: String| DeployError::Keys { path: path.to_owned(), problem };
        if self.keys.iter().any(|key| key.name == name) {
            return Err(wrong(format!("it has a key called `{name}`; `deploy keys remove` takes it out")));
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| wrong(format!("no random numbers: {error}")))?;
        let key = format!("{PREFIX}{}", hex::encode(random));
        self.keys.push(StoredKey { name: name.to_owned(), role, sha256: Hash::of(&key), made });
        Ok(key)
    }

    /// Takes a key out.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn remove(&mut self, path: &Path, name: &str) -> Result<(), DeployError> {
        let before = self.keys.len();
        self.keys.retain(|key| key.name != name);
        if self.keys.len() < before {
            return Ok(());
        }
        let names: Vec<&str> = self.keys.iter().map(|key| key.name.as_str()).collect();
        let problem = format!("it has no key called `{name}`, but: {}", names.join(", "));
        Err(DeployError::Keys { path: path.to_owned(), problem })
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// Name of the key; none on a loopback address without keys.
    pub(crate) name: Option<String>,
    pub(crate) role: Role,
}

/// Who is let in.
#[derive(Debug)]
pub(crate) enum Door {
    /// Everybody, on loopback.
    Open,
    /// Who has a key.
    Keys(Vec<Guest>),
}

#[derive(Debug)]
pub(crate) struct Guest {
    key: StoredKey,
    bucket: Mutex<Bucket>,
}

/// Requests that a key may still send: it fills up with time.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// One that holds as many as it gets in a second.
    pub(crate) fn full(rate: u32) -> Self {
        Self { tokens: f64::from(rate), at: Instant::now() }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, rate: u32) -> bool {
        let (now, rate) = (Instant::now(), f64::from(rate));
        self.tokens = (self.tokens + now.duration_since(self.at).as_secs_f64() * rate).min(rate);
        self.at = now;
        let is_there = self.tokens >= 1.0;
        self.tokens -= if is_there { 1.0 } else { 0.0 };
        is_there
    }
}

impl Door {
    /// Of a key file, or of none.
    ///
    /// # Errors
    /// As [`KeyFile::read`]; if the file has no key.
    pub(crate) fn of(path: Option<&PathBuf>, rate: u32) -> Result<Self, DeployError> {
        let Some(path) = path else { return Ok(Self::Open) };
        let KeyFile { keys } = KeyFile::read(path)?;
        if keys.is_empty() {
            let problem = "it has no key; `deploy keys add` makes one".to_owned();
            return Err(DeployError::Keys { path: path.clone(), problem });
        }
        let full = || Mutex::new(Bucket::full(rate));
        Ok(Self::Keys(keys.into_iter().map(|key| Guest { key, bucket: full() }).collect()))
    }

    /// Who asks, if it may; each request takes one of the key's `rate` requests a second.
    pub(crate) fn admit(&self, headers: &HeaderMap, rate: u32) -> Result<Who, Problem> {
        let Self::Keys(guests) = self else {
            own_machine(headers)?;
            return Ok(Who { name: None, role: Role::Admin });
        };
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return Err(Problem::unknown_key("no such header"));
        };
        let key = given.to_str().ok().and_then(bearer).ok_or_else(|| Problem::unknown_key("another form"))?;
        let Hash(asked) = Hash::of(key);
        let mut known = None;
        // All of them, whichever it is.
        for guest in guests {
            if bool::from(guest.key.sha256.0.ct_eq(&asked)) {
                known = Some(guest);
            }
        }
        let guest = known.ok_or_else(|| Problem::unknown_key("a key that is not known"))?;
        guest.take(rate)?;
        Ok(Who { name: Some(guest.key.name.clone()), role: guest.key.role })
    }
}

/// The key of `Bearer KEY`.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

impl Guest {
    fn take(&self, rate: u32) -> Result<(), Problem> {
        if self.bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take(rate) {
            return Ok(());
        }
        let allowed = format!("{rate} requests a second for each key");
        Err(Problem::too_often("key", "this key asks too often", 1).allowed(allowed).flag("--rate"))
    }
}

/// Without keys, only this machine is let in, and no page of another site: a browser sends the requests of such a page
/// to loopback addresses, too, under a name of that site perhaps.
fn own_machine(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let name = Uri::from_str(&format!("http://{host}")).ok().and_then(|uri| uri.host().map(str::to_owned));
    if !name.as_deref().is_some_and(is_loopback) {
        return Err(Problem::forbidden("header `Host`", "without keys only this machine is let in")
            .found(host)
            .allowed("localhost, or a loopback address")
            .flag("--keys"));
    }
    match text(header::ORIGIN) {
        Some(origin) if origin.split_once("://").is_none_or(|(_, own)| own != host) => {
            Err(Problem::forbidden("header `Origin`", "a page of another site asks")
                .found(origin)
                .allowed(format!("http://{host}"))
                .flag("--keys"))
        }
        _ => Ok(()),
    }
}

/// Whether a host of an address is this machine and no other.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn status(refused: Result<Who, Problem>) -> StatusCode {
        refused.map_or_else(|problem| problem.into_response().status(), |_| StatusCode::OK)
    }

    #[test]
    fn a_key_is_known_by_its_hash_alone_and_only_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut file = KeyFile::default();
        let key = file.add(&path, "desk", Role::Match, 7).unwrap();
        assert!(file.add(&path, "desk", Role::Read, 8).unwrap_err().to_string().contains("`desk`"));
        file.write(&path).unwrap();
        let stored = std::fs::read_to_string(&path).unwrap();
        assert!(!stored.contains(&key) && !stored.contains(&key[PREFIX.len()..]), "the key is not stored");
        assert_eq!(KeyFile::read(&path).unwrap().keys, file.keys);
        let door = Door::of(Some(&path), 100).unwrap();
        let ask = |value: &str| door.admit(&headers(&[(header::AUTHORIZATION, value)]), 100);
        let who = ask(&format!("Bearer {key}")).unwrap();
        assert_eq!((who.name.as_deref(), who.role), (Some("desk"), Role::Match));
        assert_eq!(ask(&format!("bearer {key}")).unwrap(), who, "the scheme is no secret");
        for wrong in [&key[..], "Bearer", "Bearer ", "Basic x", &format!("Bearer {}", &key[..key.len() - 1])] {
            assert_eq!(status(ask(wrong)), StatusCode::UNAUTHORIZED, "{wrong}");
        }
        assert_eq!(status(door.admit(&HeaderMap::new(), 100)), StatusCode::UNAUTHORIZED);
        file.remove(&path, "desk").unwrap();
        assert!(file.remove(&path, "desk").unwrap_err().to_string().contains("`desk`"));
        file.write(&path).unwrap();
        assert!(Door::of(Some(&path), 1).unwrap_err().to_string().contains("no key"));
    }

    #[test]
    fn a_key_that_asks_too_often_is_told_and_no_other_pays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut file = KeyFile::default();
        let keys = ["one", "two"].map(|name| file.add(&path, name, Role::Read, 0).unwrap());
        file.write(&path).unwrap();
        let door = Door::of(Some(&path), 3).unwrap();
        let [one, two] = keys.map(|key| headers(&[(header::AUTHORIZATION, &format!("Bearer {key}"))]));
        // A rate of zero never fills the bucket again: no clock decides.
        let asked: Vec<StatusCode> = (0..5).map(|_| status(door.admit(&one, 0))).collect();
        assert_eq!(asked[0], StatusCode::TOO_MANY_REQUESTS, "a bucket holds no more than the rate");
        let asked: Vec<StatusCode> = (0..3).map(|_| status(door.admit(&two, 1_000_000))).collect();
        assert_eq!(asked, [StatusCode::OK; 3]);
    }

    #[test]
    fn without_keys_no_other_name_and_no_other_site_is_let_in() {
        let ask = |pairs: &[(header::HeaderName, &str)]| status(Door::Open.admit(&headers(pairs), 1));
        for host in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.9.9.9"] {
            assert_eq!(ask(&[(header::HOST, host)]), StatusCode::OK, "{host}");
            let origin = format!("http://{host}");
            assert_eq!(ask(&[(header::HOST, host), (header::ORIGIN, &origin)]), StatusCode::OK, "{origin}");
        }
        for host in ["", "example.org", "127.0.0.1.example.org", "10.0.0.1:8080", "localhost.example.org:80"] {
            assert_eq!(ask(&[(header::HOST, host)]), StatusCode::FORBIDDEN, "{host}");
        }
        for origin in ["null", "http://example.org", "http://127.0.0.1:9", "http://127.0.0.1:8080.example.org"] {
            let pairs = [(header::HOST, "127.0.0.1:8080"), (header::ORIGIN, origin)];
            assert_eq!(ask(&pairs), StatusCode::FORBIDDEN, "{origin}");
        }
    }
}
