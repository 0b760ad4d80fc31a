//! `retort-edge serve`: a model over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use retort_engine::Model;
use retort_serve::http::{Server, ServerOptions, default_limits};

use crate::output;
use crate::runtime::{Runtime, Speculate};

/// Serve a model to programs (OpenAI's API) and browsers (a page at /)
#[derive(clap::Args)]
#[command(
    after_help = "It listens on this machine alone unless --host and --api-key say otherwise. Ctrl-C ends it: answers that \
    have begun may finish.\n\nExamples:\n  retort-edge serve model.gguf\n  \
    RETORT_API_KEY=secret retort-edge serve model.gguf --host 0.0.0.0"
)]
pub struct Args {
    /// The model
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The key that clients must send; better set as RETORT_API_KEY, which other users do not see
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// The origin whose pages may use it, or * [default: only its own page]
    #[arg(long, value_name = "ORIGIN")]
    cors: Option<String>,
    /// The model's name for clients [default: the file's]
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Tokens of one request, prompt and answer [default: the model's context, at most 8192]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Tokens whose keys and values are kept, of all requests together [default: four contexts, or half of the free memory]
    #[arg(long, value_name = "N")]
    kv_tokens: Option<usize>,
    /// Requests that are worked on at a time
    #[arg(long, default_value_t = 32, value_name = "N")]
    parallel: usize,
    /// Requests that may wait; more are refused
    #[arg(long, default_value_t = 256, value_name = "N")]
    queue: usize,
    /// Tokens of an answer in a conversation, where the client sets no limit
    #[arg(long, default_value_t = 2048, value_name = "N")]
    max_tokens: usize,
    /// Seconds that a request may take
    #[arg(long, default_value_t = 600, value_name = "S")]
    timeout: u64,
    /// Seconds that a client may take to send a request, or to take up what it is sent
    #[arg(long, default_value_t = 30, value_name = "S")]
    patience: u64,
    /// Seconds that answers may go on when the server ends
    #[arg(long, default_value_t = 10, value_name = "S")]
    grace: u64,
    /// Connections at a time
    #[arg(long, default_value_t = 256, value_name = "N")]
    connections: usize,
    /// KiB of a request's body
    #[arg(long, default_value_t = 4096, value_name = "KIB")]
    max_body: usize,
    #[command(flatten)]
    speculate: Speculate,
    #[command(flatten)]
    runtime: Runtime,
}

/// Serves until Ctrl-C or SIGTERM.
pub fn run(args: Args) -> Result<()> {
    let engine = args.runtime.settings()?;
    let speculation = args.speculate.open(&engine)?;
    let model = Arc::new(Model::open_with(&args.file, engine)?);
    if !model.engine.stands_alone() {
        eprintln!(
            "note: an answer's rounding may depend on what else is being answered; with a packed file \
             (`retort-edge pack`) and f16 keys and values it does not"
        );
    }
    let mut limits = default_limits(&model, args.ctx, args.kv_tokens);
    limits.parallel = args.parallel;
    limits.queue = args.queue;
    limits.timeout = Duration::from_secs(args.timeout);
    let variable = std::env::var("RETORT_API_KEY").ok();
    let options = ServerOptions {
        address: SocketAddr::new(args.host, args.port),
        api_key: args.api_key.or(variable),
        cors: args.cors,
        name: args.alias,
        limits,
        speculation,
        max_tokens: args.max_tokens,
        max_body: args.max_body.saturating_mul(1024),
        connections: args.connections,
        patience: Duration::from_secs(args.patience),
        grace: Duration::from_secs(args.grace),
    };
    // one thread for connections; the others compute
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .context("cannot start the server")?;
    runtime.block_on(async {
        let server = Server::bind(model, options).await?;
        output::print(&format!("http://{}\n", server.address()?))?;
        eprintln!("serving {}; Ctrl-C ends it", server.name());
        server.run(ended()).await;
        Ok::<_, anyhow::Error>(())
    })?;
    // what still waits for a client that takes nothing up is not waited for
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Ctrl-C or, where there is one, SIGTERM.
async fn ended() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}
