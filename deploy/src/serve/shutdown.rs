//! What the system tells the process: stop, or read model, keys and certificate again.

use std::sync::Arc;

use tokio::sync::watch;

use super::state::App;

/// Becomes true when the process is to stop.
///
/// # Errors
/// If signals cannot be waited for.
pub(crate) fn told(app: &Arc<App>) -> std::io::Result<watch::Receiver<bool>> {
    let (tell, told) = watch::channel(false);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hangup = signal(SignalKind::hangup())?;
        let own = Arc::clone(app);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hangup.recv() => {
                        let app = Arc::clone(&own);
                        tokio::task::spawn_blocking(move || reload(&app));
                    }
                }
            }
            stop(&own, &tell);
        });
    }
    #[cfg(not(unix))]
    {
        let own = Arc::clone(app);
        tokio::spawn(async move {
            // Without a handler there is nothing to wait for.
            if tokio::signal::ctrl_c().await.is_ok() {
                stop(&own, &tell);
            } else {
                std::future::pending::<()>().await;
            }
        });
    }
    Ok(told)
}

fn stop(app: &App, tell: &watch::Sender<bool>) {
    tracing::info!("told to stop: what was accepted is finished");
    app.stop();
    tell.send_replace(true);
}

#[cfg(unix)]
fn reload(app: &App) {
    match app.reload() {
        Ok(loaded) => tracing::info!(sha256 = loaded.model.sha256, "model, keys and certificate are read again"),
        Err(error) => {
            let cause = terminal::sentence(&error);
            tracing::error!(cause, "model, keys and certificate stay as they are");
        }
    }
}
