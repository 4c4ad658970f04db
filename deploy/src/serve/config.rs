//! What a service is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::runtime;

/// What a service is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Model file or bundle folder.
    pub model: PathBuf,
    /// How it is opened.
    pub options: runtime::Options,
    /// Folder of the gallery, which is made if needed; without one only pictures are compared.
    pub gallery: Option<PathBuf>,
    /// A new one has renewable templates.
    pub renewable: bool,
    /// Where it listens; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Who is let in; see [`KeyFile`](super::auth::KeyFile).
    pub keys: Option<PathBuf>,
    /// Certificates and private key, as PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How searches decide; unless it is given, as the gallery has noted, or by the calibrated threshold for one of a
    /// hundred strangers where there is one.
    pub threshold: Option<Rule>,
    /// Highest rate at which `verify` may accept strangers.
    pub far: f64,
    /// How much is done at a time.
    pub limits: Limits,
    /// How log lines are written.
    pub log: Log,
}

/// How searches decide whether somebody is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// By the model's calibrated threshold for this false positive identification rate and the gallery's size.
    Fpir(f64),
    /// By a similarity that somebody chose.
    Chosen(f32),
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Log {
    /// An object a line.
    Json,
    /// For people.
    Text,
    /// None but errors.
    Quiet,
}

/// How much is done at a time. Each is a flag of `deploy serve`, which refusals name.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Limits {
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Pixels of a picture.
    pub max_pixels: u64,
    /// Pictures of a request.
    pub max_pictures: usize,
    /// Requests that are worked on at a time.
    pub max_requests: usize,
    /// Connections at a time.
    pub max_connections: usize,
    /// MiB of bodies and decoded pictures at a time.
    pub max_memory: usize,
    /// Rows that wait for the network, and changes that wait for the gallery.
    pub max_queue: usize,
    /// Rows of one run of the network.
    pub batch_size: usize,
    /// Seconds until a request's headers, and after them until another request, have to be there.
    pub header_seconds: u64,
    /// Seconds until a request's body has to be there, and that a client may leave an answer unread.
    pub body_seconds: u64,
    /// Seconds that a row may wait for the network.
    pub deadline_seconds: u64,
    /// Requests a second of each key.
    pub rate: u32,
    /// Seconds that are given to what was accepted when the service is told to stop.
    pub grace_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 32 << 20,
            max_pixels: 25_000_000,
            max_pictures: 16,
            max_requests: 64,
            max_connections: 256,
            max_memory: 1024,
            max_queue: 256,
            batch_size: 16,
            header_seconds: 10,
            body_seconds: 30,
            deadline_seconds: 10,
            rate: 100,
            grace_seconds: 30,
        }
    }
}

impl Limits {
    pub(crate) fn header_time(&self) -> Duration {
        Duration::from_secs(self.header_seconds)
    }

    pub(crate) fn body_time(&self) -> Duration {
        Duration::from_secs(self.body_seconds)
    }
}
