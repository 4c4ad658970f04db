//! Connections: so many at a time, encrypted or not, none that keeps a place by being slow.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::config::Limits;
use super::routes;
use super::state::App;
use crate::DeployError;

/// Bytes of a request's headers, and of what is read ahead.
const BUFFER: usize = 64 << 10;

/// Headers of a request.
const HEADERS: usize = 64;

/// A certificate chain and its private key, for TLS 1.2 and 1.3.
///
/// # Errors
/// If a file cannot be read or they do not go together.
pub(crate) fn tls(chain: &Path, key: &Path) -> Result<TlsAcceptor, DeployError> {
    let wrong = |path: &Path, problem: String| DeployError::Tls { path: path.to_owned(), problem };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|problem| wrong(chain, problem.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong(chain, "it holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|problem| wrong(key, problem.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|problem| wrong(key, problem.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers until told to stop, and then what was accepted.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: &Arc<App>,
    mut told: watch::Receiver<bool>,
) {
    let limits = app.config.limits;
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let router = routes::router(app);
    let graceful = GracefulShutdown::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            _ = told.wait_for(|stop| *stop) => break,
        };
        // The places are never closed.
        let Ok(place) = place else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(problem) => {
                    // No file is left, perhaps; those who leave make room.
                    tracing::warn!(cause = %problem, "a connection cannot be accepted");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            _ = told.wait_for(|stop| *stop) => break,
        };
        let (tls, router, watcher, app) = (tls.clone(), router.clone(), graceful.watcher(), Arc::clone(app));
        tokio::spawn(async move {
            app.metrics.connections.inc();
            connection(stream, tls, router, watcher, &limits).await;
            app.metrics.connections.dec();
            drop(place);
        });
    }
    drop(listener);
    if timeout(Duration::from_secs(limits.grace_seconds), graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = limits.grace_seconds, "some clients are not done: their connections end");
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, watcher: Watcher, limits: &Limits) {
    // Answers are small; nobody is to wait for more of them.
    let _ = stream.set_nodelay(true);
    match tls {
        None => answer(stream, router, watcher, limits).await,
        Some(tls) => {
            // Who does not speak TLS, or is slow to, is told nothing.
            if let Ok(Ok(stream)) = timeout(limits.header_time(), tls.accept(stream)).await {
                answer(stream, router, watcher, limits).await;
            }
        }
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    watcher: Watcher,
    limits: &Limits,
) {
    let mut stream = TimeoutStream::new(stream);
    // A client that does not read its answer is not waited for.
    stream.set_write_timeout(Some(limits.body_time()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time())
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    // What goes wrong here is the client's: it left, or was slow.
    let _ = pin!(watcher.watch(connection)).await;
}
