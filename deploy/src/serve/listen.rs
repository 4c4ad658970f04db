//! Connections: so many at a time, encrypted or not, none that keeps a place by being slow.

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

use super::config::Limits;
use super::routes;
use super::state::App;

/// Bytes of a request's headers, and of what is read ahead.
const BUFFER: usize = 64 << 10;

/// Headers of a request.
const HEADERS: usize = 64;

/// Answers until told to stop, and then what was accepted.
pub(crate) async fn serve(listener: TcpListener, app: &Arc<App>, mut told: watch::Receiver<bool>) {
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
        let (tls, router, watcher, app) = (app.tls(), router.clone(), graceful.watcher(), Arc::clone(app));
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
