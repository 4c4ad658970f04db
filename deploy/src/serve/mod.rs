//! `deploy serve`: a model and a gallery on the network.
//!
//! A request passes: listener (TLS, times) `->` router (who may, how many) `->` body (bytes) `->` pictures (pixels,
//! memory) `->` queue (rows that run together) `->` gallery (one thread that changes it, any number that read) `->`
//! answer. What is too much at any place is refused with the limit and the flag that changes it.

pub mod auth;
mod certificate;
pub mod config;
mod error;
mod limits;
mod listen;
mod metrics;
mod people;
mod queue;
mod routes;
mod sent;
mod shutdown;
mod state;

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use config::{Config, Log};
use tracing_subscriber::filter::LevelFilter;

use crate::DeployError;
use state::App;

/// Opens model and gallery, serves until the process is told to stop, and finishes what was accepted. The address is
/// printed to standard output once requests are answered.
///
/// # Errors
/// If model, gallery, keys or certificate cannot be used, the address is taken, or it can be reached from other
/// machines and there are no keys.
pub fn run(config: Config) -> Result<(), DeployError> {
    if !config.listen.ip().is_loopback() && config.keys.is_none() {
        return Err(DeployError::NoKeys { listen: config.listen });
    }
    logged(config.log);
    let failed = |source| DeployError::Listen { listen: config.listen, source };
    // Taken first: whoever connects while the model opens waits.
    let listener = TcpListener::bind(config.listen).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let app = Arc::new(App::open(config.clone())?);
    // Decoding and searching take the other threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.options.threads().min(4))
        .max_blocking_threads(config.limits.max_requests.max(4) + 8)
        .enable_all()
        .build()
        .map_err(failed)?;
    let served = runtime.block_on(async {
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let told = shutdown::told(&app).map_err(failed)?;
        let mut out = std::io::stdout();
        // Nobody may read it.
        let _ = writeln!(out, "listening on {scheme}://{address}").and_then(|()| out.flush());
        tracing::info!(address = %address, scheme, "ready");
        listen::serve(listener, &app, told).await;
        Ok(())
    });
    // What was accepted is written before the process ends.
    if let Some(people) = &app.people {
        people.finish();
    }
    runtime.shutdown_background();
    tracing::info!("stopped");
    served
}

/// Lines go to standard error.
fn logged(log: Log) {
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
    // Of several services in one process the first decides.
    let _ = match log {
        Log::Json => lines.json().flatten_event(true).with_max_level(LevelFilter::INFO).try_init(),
        Log::Text => lines.with_max_level(LevelFilter::INFO).try_init(),
        Log::Quiet => lines.with_max_level(LevelFilter::ERROR).try_init(),
    };
}
