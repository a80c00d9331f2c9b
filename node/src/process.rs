//! What every long-running command needs of its process: a runtime, signals, an orderly end.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Threads of a pool that have nothing to do stay this long: their CPU time is counted only while they live.
const IDLE_THREADS: Duration = Duration::from_secs(3600);

/// A runtime whose threads carry the name of what they do, so that one kind of work does not wait behind another, and its CPU time is known.
pub(crate) struct Pool(Option<Runtime>);

impl Pool {
    fn start(name: &'static str, workers: usize) -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.enable_all().thread_name(name).worker_threads(workers).thread_keep_alive(IDLE_THREADS);
        let runtime = builder.build().with_context(|| format!("the runtime {name} cannot be started"))?;
        Ok(Self(Some(runtime)))
    }

    /// Everything that `future` spawns runs on this pool; the future itself runs where it is awaited.
    pub(crate) fn inside<F: Future>(&self, future: F) -> impl Future<Output = F::Output> {
        let handle = self.0.as_ref().map(|runtime| runtime.handle().clone());
        let mut future = Box::pin(future);
        std::future::poll_fn(move |context| {
            let _inside = handle.as_ref().map(Handle::enter);
            future.as_mut().poll(context)
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Without waiting: what must be orderly was ended before, and an asynchronous caller may not block.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The pools of a node, beside the one that serves gRPC.
pub(crate) struct Threads {
    /// The peers' connections.
    pub(crate) network: Pool,
    /// Agreement on the order of blocks.
    pub(crate) order: Pool,
}

impl Threads {
    /// # Errors
    /// The system gives no threads.
    pub(crate) fn start() -> Result<Self> {
        Ok(Self { network: Pool::start("anji-network", 1)?, order: Pool::start("anji-order", 1)? })
    }
}

/// Runs a command on a runtime of its own.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("anji-main")
        .thread_keep_alive(IDLE_THREADS)
        .build()
        .context("the runtime cannot be started")?;
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
