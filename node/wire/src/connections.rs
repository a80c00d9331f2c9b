//! Accepting connections: a bounded number, each of which has to say that it speaks HTTP/2 within a while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long a connection may take to send the first line of HTTP/2.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// After an accept that failed (too many open files, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open connection; its place is free again when it is dropped.
pub struct Connection<T> {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    _open: T,
}

/// Accepts until stopped; connections beyond `limit` are closed at once, and `on_refused` is told. What `on_open` gives is kept until
/// the connection is closed: a server counts its connections with it.
pub async fn accept<T: Send + Unpin + 'static>(
    listener: TcpListener,
    limit: usize,
    stopping: CancellationToken,
    on_open: impl Fn() -> T,
    on_refused: impl Fn(),
    accepted: mpsc::Sender<io::Result<Connection<T>>>,
) {
    let places = Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
    loop {
        let stream = tokio::select! {
            () = stopping.cancelled() => return,
            result = listener.accept() => match result {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            on_refused();
            continue;
        };
        let (accepted, open) = (accepted.clone(), on_open());
        tokio::spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(PREFACE_TIMEOUT, wait_for_preface(&stream)).await
                && stream.set_nodelay(true).is_ok()
            {
                // An error means that the server has ended.
                let _ = accepted.send(Ok(Connection { stream, _place: place, _open: open })).await;
            }
        });
    }
}

/// Returns once the whole first line of HTTP/2 is there, unread.
async fn wait_for_preface(stream: &TcpStream) -> io::Result<()> {
    let mut head = [0; 24];
    loop {
        let n = stream.peek(&mut head).await?;
        let same = head.get(..n).is_some_and(|head| PREFACE.starts_with(head));
        if n == 0 || !same {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if n == PREFACE.len() {
            return Ok(());
        }
        // Part of it is there, so `peek` would return at once.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl<T> Connected for Connection<T> {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl<T: Unpin> AsyncRead for Connection<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<T: Unpin> AsyncWrite for Connection<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
