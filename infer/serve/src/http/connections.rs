//! Connections: how many, how patient, and how they end.
//!
//! `axum::serve` has no limit on connections, no timeout for a request's head and none for writes,
//! so hyper's own server is driven here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use super::app::App;
use super::{ServerOptions, routes};
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
    /// [`Error::Argument`] for options that are unsafe, limits that do not fit, or an address that
    /// is taken.
    pub async fn bind(model: Arc<Model>, options: ServerOptions) -> Result<Self> {
        let address = options.address;
        let app = Arc::new(App::new(model, options)?);
        let taken = |error| {
            let problem = format!("cannot listen on {address}: {error}; choose another port");
            Error::Argument(problem)
        };
        let listener = TcpListener::bind(address).await.map_err(taken)?;
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

    /// Serves until `end`. Then it takes no more connections and requests, and answers go on for
    /// the time of grace.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let Self { app, listener } = self;
        let routes = routes(Arc::clone(&app));
        let permits = Arc::new(Semaphore::new(app.options.connections));
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
            let patience = app.options.patience;
            let mut stream = TimeoutStream::new(stream);
            // a client that takes nothing up for too long is given up; hyper's timeout is for reads
            stream.set_write_timeout(Some(patience));
            let stream = TokioIo::new(Box::pin(stream));
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
        let _ = tokio::time::timeout(app.options.grace, connections.shutdown()).await;
    }
}
