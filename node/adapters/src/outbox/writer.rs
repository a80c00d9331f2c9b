//! The thread that owns the outbox file. Appends that wait together are written and synced together.

use super::OutboxError;
use super::file::OutboxFile;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Jobs that may wait; more make the engine wait, which makes callers wait.
const QUEUE: usize = 64;

type Ack = oneshot::Sender<Result<(), Arc<OutboxError>>>;

enum Job {
    Append { bytes: Vec<u8>, ack: Ack },
    Compact { bytes: Vec<u8>, ack: Ack },
}

/// The way to the thread. It ends, with everything written, when this is dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
    size: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread; `on_sync` is told how long each sync took, in seconds.
    pub(crate) fn spawn(file: OutboxFile, on_sync: impl Fn(f64) + Send + 'static) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let size = Arc::new(AtomicU64::new(file.len()));
        let told = size.clone();
        let thread =
            std::thread::Builder::new().name(String::from("outbox")).spawn(move || run(file, queue, &told, on_sync))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), size })
    }

    /// Bytes in the file.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Writes and syncs; the answer comes when that is done. Waits only while the queue is full.
    pub(crate) async fn append(&self, bytes: Vec<u8>) -> oneshot::Receiver<Result<(), Arc<OutboxError>>> {
        let (ack, done) = oneshot::channel();
        self.send(Job::Append { bytes, ack }).await;
        done
    }

    /// Starts a new file with `bytes`, in order with the appends.
    pub(crate) async fn compact(&self, bytes: Vec<u8>) -> oneshot::Receiver<Result<(), Arc<OutboxError>>> {
        let (ack, done) = oneshot::channel();
        self.send(Job::Compact { bytes, ack }).await;
        done
    }

    async fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // A thread that is gone drops the ack, which the receiver sees.
            let _ = jobs.send(job).await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut file: OutboxFile, mut queue: mpsc::Receiver<Job>, size: &AtomicU64, on_sync: impl Fn(f64)) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| queue.blocking_recv()) {
        let (result, acks) = match job {
            Job::Append { mut bytes, ack } => {
                let mut acks = vec![ack];
                while acks.len() < QUEUE {
                    match queue.try_recv() {
                        Ok(Job::Append { bytes: more, ack }) => {
                            bytes.extend_from_slice(&more);
                            acks.push(ack);
                        }
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                let start = Instant::now();
                let result = file.append(&bytes);
                on_sync(start.elapsed().as_secs_f64());
                (result, acks)
            }
            Job::Compact { bytes, ack } => (file.compact(&bytes), vec![ack]),
        };
        size.store(file.len(), Ordering::Relaxed);
        let result = result.map_err(Arc::new);
        let fatal = result.as_ref().is_err_and(|error| error.is_fatal());
        for ack in acks {
            let _ = ack.send(result.clone());
        }
        if fatal {
            // Everybody who still waits sees a dropped ack.
            return;
        }
    }
}
