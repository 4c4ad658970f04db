//! Where a gallery in a cluster is, and how a program proves that it may use it.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::GalleryError;

/// Port of a Milvus server.
const PORT: u16 = 19530;

/// Gallery of an address that names none.
const GALLERY: &str = "vitrine";

/// Characters of a name of Milvus.
const MAX_NAME: usize = 255;

/// Bytes of a token's file.
const MAX_TOKEN: u64 = 64 << 10;

/// Variables that say who is asking; see [`Access`].
const TOKEN: &str = "MILVUS_TOKEN";
const TOKEN_FILE: &str = "MILVUS_TOKEN_FILE";
const CA_FILE: &str = "MILVUS_CA_FILE";

/// Where a gallery in a Milvus cluster is: `milvus://host[:port][/[database/]gallery]`, with `milvus+tls` for an
/// encrypted connection. Port 19530 and gallery `vitrine` where it says nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) database: Option<String>,
    pub(super) gallery: String,
    /// The lock of a program that ended without giving it back (`?unlock=`).
    pub(super) unlock: Option<u64>,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// What it has that an address has not. A password is one of these: everybody on a machine sees the arguments of
    /// its processes.
    pub fn parse(text: &str) -> Result<Self, GalleryError> {
        let wrong = |problem: &str| {
            // Nothing before an `@` is printed.
            let shown = text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("…@{rest}"));
            let problem =
                format!("{problem}; an address is milvus://host:port/gallery or milvus+tls://host:port/gallery");
            GalleryError::Field { what: "engine", value: shown.chars().take(200).collect(), problem }
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("no `://`"))?;
        let tls = match scheme {
            "milvus" => false,
            "milvus+tls" => true,
            _ => return Err(wrong("no scheme of a cluster")),
        };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if text.contains('@') {
            let problem = format!(
                "no name or password is allowed here; put `user:password` into {TOKEN} or a file named by {TOKEN_FILE}"
            );
            return Err(wrong(&problem));
        }
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address are within brackets.
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok().filter(|port| *port > 0)),
            _ => (authority, Some(PORT)),
        };
        let port = port.ok_or_else(|| wrong("a port is a number from 1 to 65535"))?;
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if !bare.map_or_else(
            || !host.is_empty() && host.bytes().all(named),
            |bare| bare.parse::<std::net::Ipv6Addr>().is_ok(),
        ) {
            return Err(wrong("no host"));
        }
        let (database, gallery) = match path.split_once('/') {
            Some((database, gallery)) => (Some(database), gallery),
            None => (None, if path.is_empty() { GALLERY } else { path }),
        };
        let letters = |name: &str| {
            name.len() <= MAX_NAME
                && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !database.iter().chain([&gallery]).all(|name| letters(name)) {
            return Err(wrong(
                "a gallery or database has a name of letters, digits and `_`, at most 255, no digit first",
            ));
        }
        let unlock = match query.map(|query| query.strip_prefix("unlock=").map(|lock| u64::from_str_radix(lock, 16))) {
            None => None,
            Some(Some(Ok(lock))) => Some(lock),
            Some(_) => return Err(wrong("`?` is followed by `unlock=` and the lock's number")),
        };
        let (host, gallery, database) = (host.to_owned(), gallery.to_owned(), database.map(str::to_owned));
        Ok(Self { host, port, tls, database, gallery, unlock })
    }

    /// What the SDK connects to.
    pub(super) fn uri(&self) -> String {
        format!("{}://{}:{}", if self.tls { "https" } else { "http" }, self.host, self.port)
    }
}

/// Without the lock: what messages say.
impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "milvus+tls" } else { "milvus" };
        write!(out, "{scheme}://{}:{}/", self.host, self.port)?;
        self.database.iter().try_for_each(|database| write!(out, "{database}/"))?;
        write!(out, "{}", self.gallery)
    }
}

/// Who is asking, and whom to believe.
#[derive(Clone, Default)]
pub struct Access {
    /// `user:password`, or a key.
    pub token: Option<String>,
    /// Certificates (PEM) of who may vouch for the server, in place of those the system trusts.
    pub ca_file: Option<PathBuf>,
}

impl Access {
    /// What the environment says: the token of `MILVUS_TOKEN` or of the file that `MILVUS_TOKEN_FILE` names, and
    /// `MILVUS_CA_FILE`.
    ///
    /// # Errors
    /// If both say a token, or a file cannot be read.
    pub fn from_environment() -> Result<Self, GalleryError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let token = match (variable(TOKEN), variable(TOKEN_FILE)) {
            (Some(_), Some(_)) => {
                let problem = format!("{TOKEN_FILE} is set too; unset one of them");
                return Err(GalleryError::Field { what: "variable", value: TOKEN.to_owned(), problem });
            }
            (Some(token), None) => Some(token.into_string().map_err(|_| secret(TOKEN))?),
            (None, Some(path)) => Some(token_of(Path::new(&path))?),
            (None, None) => None,
        };
        Ok(Self { token, ca_file: variable(CA_FILE).map(PathBuf::from) })
    }
}

/// The token is not printed.
impl fmt::Debug for Access {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        out.debug_struct("Access").field("token", &token).field("ca_file", &self.ca_file).finish()
    }
}

fn token_of(path: &Path) -> Result<String, GalleryError> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(GalleryError::io("read", path))?;
    file.take(MAX_TOKEN).read_to_string(&mut text).map_err(GalleryError::io("read", path))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_control) {
        return Err(secret(TOKEN_FILE));
    }
    Ok(token.to_owned())
}

/// A token that is none, without saying what it is.
fn secret(variable: &'static str) -> GalleryError {
    let problem = "it holds no token: one line of text, `user:password` or a key".to_owned();
    GalleryError::Field { what: "variable", value: variable.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_where_a_gallery_is() {
        for (text, uri, shown) in [
            ("milvus://db", "http://db:19530", "milvus://db:19530/vitrine"),
            ("milvus://10.0.0.1:1/", "http://10.0.0.1:1", "milvus://10.0.0.1:1/vitrine"),
            ("milvus+tls://a.b-c:443/doors", "https://a.b-c:443", "milvus+tls://a.b-c:443/doors"),
            ("milvus://[::1]/site/doors", "http://[::1]:19530", "milvus://[::1]:19530/site/doors"),
            ("milvus://[::1]:7/d?unlock=1f", "http://[::1]:7", "milvus://[::1]:7/d"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.uri().as_str(), address.to_string().as_str()), (uri, shown));
        }
        assert_eq!(Address::parse("milvus://[::1]:7/d?unlock=1f").unwrap().unlock, Some(0x1f));
    }

    #[test]
    fn other_addresses_are_refused_without_printing_a_password() {
        for (text, problem) in [
            ("folder", "no `://`"),
            ("http://db", "no scheme of a cluster"),
            ("milvus://", "no host"),
            ("milvus://a b", "no host"),
            ("milvus://[::1", "no host"),
            ("milvus://db:0", "a port is"),
            ("milvus://db:70000", "a port is"),
            ("milvus://db:", "a port is"),
            ("milvus://db/9", "a name of letters"),
            ("milvus://db/a/b/c", "a name of letters"),
            ("milvus://db//b", "a name of letters"),
            ("milvus://db/a?unlock=", "`unlock=`"),
            ("milvus://db/a?x=1", "`unlock=`"),
            ("milvus://root:hunter2@db/a", "MILVUS_TOKEN"),
            ("milvus://db/a@hunter2", "MILVUS_TOKEN"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
            assert!(!error.contains("root:hunter2"), "{error}");
        }
    }

    #[test]
    fn a_token_is_read_from_a_file_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for bad in ["", "\n", "a\nb"] {
            std::fs::write(&path, bad).unwrap();
            assert!(token_of(&path).is_err(), "{bad:?}");
        }
        std::fs::write(&path, "root:hunter2\n").unwrap();
        let access = Access { token: Some(token_of(&path).unwrap()), ca_file: None };
        assert_eq!(access.token.as_deref(), Some("root:hunter2"));
        assert!(!format!("{access:?}").contains("hunter2"));
        assert!(token_of(&folder.path().join("none")).is_err());
    }
}
