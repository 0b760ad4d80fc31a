//! Connections: how many, how patient, and how they end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};

use super::{App, Settings, routes};
use retort_engine::Model;
use retort_format::{Error, Result};

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
}

impl Server {
    /// Starts the engine and begins to listen. Connections wait for [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for settings that are unsafe, limits that do not fit, or an address that is taken.
    pub async fn bind(model: Arc<Model>, settings: Settings) -> Result<Self> {
        let address = settings.address;
        let app = Arc::new(App::new(model, settings)?);
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Error::Argument(format!(
                "cannot listen on {address}: {error}; choose another port"
            ))
        })?;
        Ok(Self { app, listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if the system does not tell.
    pub fn address(&self) -> Result<SocketAddr> {
        let unknown = |error| Error::Argument(format!("the address is unknown: {error}"));
        self.listener.local_addr().map_err(unknown)
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.app.name
    }

    /// Serves until `end`. Then no connection and no request is taken any more, and answers go on for the time of
    /// grace.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let Self { app, listener } = self;
        let routes = routes(Arc::clone(&app));
        let permits = Arc::new(Semaphore::new(app.settings.connections));
        let connections = GracefulShutdown::new();
        let mut end = std::pin::pin!(end);
        loop {
            let accepted = async {
                // others wait in the system's queue
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, stream) = tokio::select! {
                () = &mut end => break,
                (permit, accepted) = accepted => match accepted {
                    Ok((stream, _)) => (permit, stream),
                    Err(_) => {
                        // out of file descriptors, most likely: give some time to be closed
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let _ = stream.set_nodelay(true);
            let patience = app.settings.patience;
            let stream = TokioIo::new(Patient::new(stream, patience));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(patience)
                .max_buf_size(64 << 10)
                .serve_connection(stream, TowerToHyperService::new(routes.clone()));
            let connection = connections.watch(connection);
            tokio::spawn(async move {
                // what goes wrong is the client's: it has gone, or does not speak HTTP
                let _ = connection.await;
                drop(permit);
            });
        }
        drop(listener);
        app.scheduler.close();
        let _ = tokio::time::timeout(app.settings.grace, connections.shutdown()).await;
    }
}

/// A connection that is given up when the other side takes nothing up for too long.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Patient {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            deadline: Box::pin(tokio::time::sleep(patience)),
            waiting: false,
        }
    }

    /// Passes the result of a write on, or ends a wait that took too long.
    fn watch<T>(&mut self, cx: &mut Context, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waiting = false;
            return result;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
