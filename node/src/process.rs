//! What every long-running command needs of its process: a runtime, signals, an orderly end.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Runs a command on a runtime of its own.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")?;
    let result = runtime.block_on(command);
    // Blocking tasks that hang (a dead disk) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

/// SIGTERM and SIGINT cancel `stop`; a second one ends the process at once, which is safe at any time.
pub(crate) fn stop_on_signal(stop: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        for round in 0.. {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if round > 0 {
                tracing::warn!("{name} again: ending at once");
                std::process::exit(1);
            }
            tracing::info!("{name}: stopping");
            stop.cancel();
        }
    });
    Ok(())
}

/// Waits for a side task at the end; its trouble is worth a line, not an exit code.
pub(crate) async fn finish<E: std::fmt::Display>(name: &str, task: JoinHandle<std::result::Result<(), E>>) {
    match tokio::time::timeout(Duration::from_secs(3), task).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "{name} ended with an error"),
        Ok(Err(error)) => tracing::warn!(%error, "{name} did not end well"),
        Err(_) => tracing::warn!("{name} did not end in time"),
    }
}
