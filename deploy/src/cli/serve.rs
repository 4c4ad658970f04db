//! `deploy serve`: model and gallery on the network.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use super::args::{NewKeyArgs, RunArgs, batch_size, cosine, rate};
use crate::DeployError;
use crate::serve;
use crate::serve::config::{Config, Limits, Log, Rule};

/// Serve a model and a gallery on the network: the Open Inference Protocol, search, enrolment, and a page to use them.
/// SIGTERM finishes what was accepted; SIGHUP reads model, keys and certificate again.
#[derive(Debug, clap::Args)]
#[command(mut_arg("key_file", |arg| arg.requires("gallery")))]
pub(crate) struct ServeArgs {
    /// Model file, or bundle folder with a model.onnx.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Gallery: a folder, which is made if needed. Nobody else changes it meanwhile [default: none, pictures are only
    /// compared with each other].
    #[arg(long, value_name = "GALLERY")]
    pub(crate) gallery: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) key: NewKeyArgs,
    /// Address and port; port 0 takes any that is free. Beyond loopback --keys is needed.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// Who may ask: a file that `deploy keys add` made [default: everybody on this machine].
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// Certificate chain as PEM, for TLS [default: none, connections are not encrypted].
    #[arg(long, value_name = "FILE.pem", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert as PEM [default: none].
    #[arg(long, value_name = "FILE.pem", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Similarity from which on somebody is found [default: what was stored in the gallery, or --fpir].
    #[arg(long, value_name = "COSINE", value_parser = cosine, allow_hyphen_values = true, conflicts_with = "fpir",
        requires = "gallery")]
    pub(crate) threshold: Option<f32>,
    /// Highest rate at which searches may find somebody for a stranger; by the model's calibrated thresholds [default:
    /// 0.01 where the model is calibrated for it, otherwise nothing is decided].
    #[arg(long, value_name = "RATE", value_parser = rate, requires = "gallery")]
    pub(crate) fpir: Option<f64>,
    /// Highest rate at which `verify` may accept strangers, where the request names none.
    #[arg(long, default_value_t = 0.001, value_name = "RATE", value_parser = rate)]
    pub(crate) far: f64,
    /// Rows of one run of the network, 1 to 65536: what waits runs together.
    #[arg(long, visible_alias = "batch", default_value = "16", value_name = "N", value_parser = batch_size)]
    pub(crate) batch_size: NonZeroUsize,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Log lines on standard error: json, text or quiet.
    #[arg(long, value_enum, default_value_t = Log::Json, value_name = "FORM")]
    pub(crate) log: Log,
}

/// How much is done at a time.
#[derive(Debug, clap::Args)]
pub(crate) struct LimitArgs {
    /// Bytes of a request's body.
    #[arg(long, default_value_t = Limits::default().max_body, value_name = "BYTES",
        value_parser = |text: &str| terminal::whole(text, 1024, 1 << 30))]
    pub(crate) max_body: usize,
    /// Pixels of a picture.
    #[arg(long, default_value_t = Limits::default().max_pixels as usize, value_name = "N",
        value_parser = |text: &str| terminal::whole(text, 1, 1 << 26))]
    pub(crate) max_pixels: usize,
    /// Pictures of a request.
    #[arg(long, default_value_t = Limits::default().max_pictures, value_name = "N",
        value_parser = |text: &str| terminal::whole(text, 1, 1024))]
    pub(crate) max_pictures: usize,
    /// Requests that are worked on at a time.
    #[arg(long, default_value_t = Limits::default().max_requests, value_name = "N",
        value_parser = |text: &str| terminal::whole(text, 1, 4096))]
    pub(crate) max_requests: usize,
    /// Connections at a time.
    #[arg(long, default_value_t = Limits::default().max_connections, value_name = "N",
        value_parser = |text: &str| terminal::whole(text, 1, 65536))]
    pub(crate) max_connections: usize,
    /// MiB of bodies and decoded pictures at a time.
    #[arg(long, default_value_t = Limits::default().max_memory, value_name = "MIB",
        value_parser = |text: &str| terminal::whole(text, 16, 1 << 20))]
    pub(crate) max_memory: usize,
    /// Rows that wait for the network, and changes that wait for the gallery.
    #[arg(long, default_value_t = Limits::default().max_queue, value_name = "N",
        value_parser = |text: &str| terminal::whole(text, 1, 65536))]
    pub(crate) max_queue: usize,
    /// Seconds until a request's headers have to be there, and that a connection may be idle.
    #[arg(long, default_value_t = Limits::default().header_seconds, value_name = "SECONDS",
        value_parser = seconds)]
    pub(crate) header_seconds: u64,
    /// Seconds until a request's body has to be there, and that an answer may be left unread.
    #[arg(long, default_value_t = Limits::default().body_seconds, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) body_seconds: u64,
    /// Seconds that a row may wait for the network.
    #[arg(long, default_value_t = Limits::default().deadline_seconds, value_name = "SECONDS",
        value_parser = seconds)]
    pub(crate) deadline_seconds: u64,
    /// Requests a second of each key.
    #[arg(long, default_value_t = Limits::default().rate, value_name = "N", requires = "keys",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Seconds that are given to what was accepted when the service is told to stop.
    #[arg(long, default_value_t = Limits::default().grace_seconds, value_name = "SECONDS",
        value_parser = seconds)]
    pub(crate) grace_seconds: u64,
}

fn seconds(text: &str) -> Result<u64, String> {
    terminal::whole(text, 1, 3600).map(|seconds| seconds as u64)
}

pub(crate) fn run(args: ServeArgs) -> Result<ExitCode, DeployError> {
    if let Some(gallery) = &args.gallery {
        args.key.unlock(gallery)?;
    }
    terminal::note_fewer_threads(args.run.threads);
    let threads = args.run.threads();
    let LimitArgs { max_body, max_pixels, max_pictures, max_requests, max_connections, .. } = args.limits;
    let LimitArgs { max_memory, max_queue, header_seconds, body_seconds, deadline_seconds, .. } = args.limits;
    let limits = Limits {
        max_body,
        max_pixels: max_pixels as u64,
        max_pictures,
        max_requests,
        max_connections,
        max_memory,
        max_queue,
        batch_size: args.batch_size.get(),
        header_seconds,
        body_seconds,
        deadline_seconds,
        rate: args.limits.rate,
        grace_seconds: args.limits.grace_seconds,
    };
    serve::run(Config {
        model: args.model,
        options: args.run.options(threads),
        gallery: args.gallery,
        renewable: args.key.renewable,
        listen: args.listen,
        keys: args.keys,
        tls: args.tls_cert.zip(args.tls_key),
        threshold: args.threshold.map(Rule::Chosen).or(args.fpir.map(Rule::Fpir)),
        far: args.far,
        limits,
        log: args.log,
    })?;
    Ok(ExitCode::SUCCESS)
}
