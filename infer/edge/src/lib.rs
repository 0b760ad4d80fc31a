//! The commands of the edge binary, one file a subcommand, each a thin call into the crates of `infer/`.
//!
//! `retort-edge` runs them as they are; `retort` offers them beside its own. Text and figures go to standard output,
//! everything else to standard error.

mod bench;
mod chat;
mod info;
pub mod output;
mod pack;
mod perplexity;
mod quantize;
mod quantize_options;
mod run;
mod runtime;
mod serve;

use anyhow::Result;

pub use quantize_options::QuantizeOptions;

/// The subcommands.
#[derive(clap::Subcommand)]
pub enum Command {
    #[allow(missing_docs)]
    Run(run::Args),
    #[allow(missing_docs)]
    Chat(chat::Args),
    #[allow(missing_docs)]
    Serve(serve::Args),
    #[allow(missing_docs)]
    Bench(bench::Args),
    #[allow(missing_docs)]
    Perplexity(perplexity::Args),
    #[allow(missing_docs)]
    Info(info::Args),
    #[allow(missing_docs)]
    Pack(pack::Args),
    #[allow(missing_docs)]
    Quantize(quantize::Args),
}

impl Command {
    /// Chooses the kernels and runs the command.
    ///
    /// # Errors
    /// Kernels that this processor does not run (`RETORT_KERNELS`); the command's own.
    pub fn run(self) -> Result<()> {
        retort_kernels::init()?;
        match self {
            Command::Run(args) => run::run(args),
            Command::Chat(args) => chat::run(args),
            Command::Serve(args) => serve::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Perplexity(args) => perplexity::run(args),
            Command::Info(args) => info::run(args),
            Command::Pack(args) => pack::run(args),
            Command::Quantize(args) => quantize::run(args),
        }
    }
}
