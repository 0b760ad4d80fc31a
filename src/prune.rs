//! `retort prune`: cuts a student out of a parent model.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use indicatif::ProgressBar;
use retort_prune::{
    ImportanceMetric, LayerSelection, ModelShape, Progress, PruneOptions, PrunePlan, PruneReport,
    TargetSizes, TextSource,
};

use crate::progress;
use crate::signals;

/// Cut a smaller model out of a checkpoint, to train on from there
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  retort prune smollm2 --out half --layers 15 --data 'c4/*.parquet'\n  \
    retort prune smollm2 --out small --params 60M --data 'c4/*.parquet' --vocab 16384 --vocab-from 'c4/*.parquet'\n  \
    retort prune smollm2 --params 35M --plan\n\n\
    The student is a Hugging Face directory: start a recipe from it with [model] from = \"half\"."
)]
pub struct Args {
    /// A Hugging Face directory, or a run directory (its newest checkpoint)
    checkpoint: PathBuf,
    /// The directory to write; it must not exist yet, or be empty
    #[arg(long, value_name = "DIR", required_unless_present = "plan")]
    out: Option<PathBuf>,
    /// Layers to keep
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// The criterion that chooses them
    #[arg(long, value_enum, default_value_t = By::Influence)]
    layers_by: By,
    /// The layers to keep by number, from 0, such as 0,1,4-7
    #[arg(long, value_name = "LIST", conflicts_with_all = ["layers", "layers_by"])]
    keep_layers: Option<String>,
    /// Allow the first and the last layer to be removed
    #[arg(long)]
    ends: bool,
    /// Width of the residual stream
    #[arg(long, visible_alias = "hidden-size", value_name = "N")]
    hidden: Option<usize>,
    /// Query heads, in whole groups that share a key head
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Key heads, each with its query heads
    #[arg(long, value_name = "N")]
    kv_heads: Option<usize>,
    /// Channels within the feed-forward block
    #[arg(long, value_name = "N")]
    mlp: Option<usize>,
    /// The importance of channels and heads
    #[arg(long, value_enum, default_value_t = Importance::Activation)]
    importance: Importance,
    /// Tokens to keep: bytes, special tokens, and the most frequent in --vocab-from
    #[arg(long, value_name = "N")]
    vocab: Option<usize>,
    /// Text to count tokens in
    #[arg(long, value_name = "SOURCE", requires = "vocab")]
    vocab_from: Option<String>,
    /// Most tokens of it to count
    #[arg(long, value_name = "N", default_value_t = 50_000_000)]
    vocab_tokens: usize,
    /// Total parameters, such as 35M: sizes that are not given keep the parent's proportions
    #[arg(long, value_name = "N", value_parser = count)]
    params: Option<u64>,
    /// Text to measure influence and activations on: parquet or JSON-lines files, a glob, a
    /// directory, or hf://OWNER/NAME/CONFIG@REVISION
    #[arg(long, value_name = "SOURCE")]
    data: Option<String>,
    /// Tokens of it to read
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    tokens: usize,
    /// Tokens of a sequence
    #[arg(long, value_name = "N", default_value_t = 512)]
    seq_len: usize,
    /// cpu (burn-flex), ndarray, or in a build with the feature: wgpu, vulkan, cuda
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Print the shapes before and after, and do nothing: no weights or data are read
    #[arg(long)]
    plan: bool,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// `--layers-by`.
#[derive(Clone, Copy, ValueEnum)]
enum By {
    /// Remove the layers that change the residual stream least (needs --data)
    Influence,
    /// Remove the consecutive layers that together rotate it least (needs --data)
    Range,
    /// Keep evenly spaced layers
    Every,
}

/// `--importance`.
#[derive(Clone, Copy, ValueEnum)]
enum Importance {
    /// The L1 norm of their weights
    L1,
    /// The norm of their activations (needs --data)
    Activation,
}

/// A number, or thousands, millions or billions: `35M`.
fn count(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        digits if digits.len() == text.len() => (digits, 1.0),
        digits => match &text[digits.len()..] {
            "k" | "K" => (digits, 1e3),
            "m" | "M" => (digits, 1e6),
            "g" | "G" | "b" | "B" => (digits, 1e9),
            unit => return Err(format!("{unit} is no unit: k, M and B are")),
        },
    };
    let n: f64 = digits.parse().map_err(|e| format!("{digits:?}: {e}"))?;
    let n = n * unit;
    if !(1.0..=1e15).contains(&n) {
        return Err("must be between 1 and 1e15".to_owned());
    }
    Ok(n.round() as u64)
}

impl Args {
    fn options(&self) -> PruneOptions {
        let text = |source: &Option<String>, tokens| {
            let source = source.clone();
            source.map(|source| TextSource { source, tokens })
        };
        PruneOptions {
            sizes: TargetSizes {
                layers: self.layers,
                hidden: self.hidden,
                heads: self.heads,
                kv_heads: self.kv_heads,
                mlp: self.mlp,
                vocabulary: self.vocab,
                parameters: self.params,
            },
            layer_selection: match self.layers_by {
                By::Influence => LayerSelection::Influence,
                By::Range => LayerSelection::Range,
                By::Every => LayerSelection::EvenlySpaced,
            },
            keep_layers: self.keep_layers.clone(),
            remove_ends: self.ends,
            importance: match self.importance {
                Importance::L1 => ImportanceMetric::L1,
                Importance::Activation => ImportanceMetric::Activation,
            },
            calibration_text: text(&self.data, self.tokens),
            seq_len: self.seq_len,
            vocabulary_text: text(&self.vocab_from, self.vocab_tokens),
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let checkpoint = retort_train::model_directory(&args.checkpoint)?;
    let options = args.options();
    let plan = retort_prune::plan(&checkpoint, &options)?;
    match &args.out {
        Some(out) if !args.plan => {
            let report = cut(args, &checkpoint, out, &options, &plan)?;
            if args.json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                summary(&report, out);
            }
        }
        _ if args.json => println!("{}", serde_json::to_string_pretty(&plan)?),
        _ => println!("{}", table(&plan)),
    }
    Ok(())
}

/// Writes the student; prints the plan first, once the request is known to be possible.
fn cut(
    args: &Args,
    checkpoint: &Path,
    out: &Path,
    options: &PruneOptions,
    plan: &PrunePlan,
) -> anyhow::Result<PruneReport> {
    let device = retort_train::device(&args.device)?;
    let bar: RefCell<Option<(&str, ProgressBar)>> = RefCell::default();
    let show = |progress: Progress| {
        let mut bar = bar.borrow_mut();
        if bar.as_ref().is_none_or(|(what, _)| *what != progress.what) {
            match bar.take() {
                Some((_, old)) => old.finish_and_clear(),
                None => eprintln!("{}", table(plan)),
            }
            *bar = Some((progress.what, progress::bar(progress.what, progress.total)));
        }
        if let Some((_, bar)) = &*bar {
            bar.set_position(progress.done.min(progress.total));
        }
    };
    let report = retort_prune::prune(
        checkpoint,
        out,
        options,
        &device,
        signals::stop_flag(),
        &show,
    );
    if let Some((_, bar)) = bar.into_inner() {
        bar.finish_and_clear();
    }
    Ok(report?)
}

/// The shapes before and after, a line for each size.
fn table(plan: &PrunePlan) -> String {
    let PrunePlan { parent, student } = plan;
    let row = |name: &str, size: fn(&ModelShape) -> u64| {
        let (before, after) = (size(parent), size(student));
        format!("{name:<12}{before:>14}{after:>14}")
    };
    [
        format!("{:<12}{:>14}{:>14}", "", "parent", "student"),
        row("layers", |s| s.layers as u64),
        row("hidden", |s| s.hidden as u64),
        row("heads", |s| s.heads as u64),
        row("kv heads", |s| s.kv_heads as u64),
        row("head width", |s| s.head_dim as u64),
        row("mlp", |s| s.mlp as u64),
        row("vocabulary", |s| s.vocabulary as u64),
        row("parameters", |s| s.parameters),
    ]
    .join("\n")
}

fn summary(report: &PruneReport, out: &Path) {
    if report.layers.len() < report.plan.parent.layers {
        let layers: Vec<String> = report.layers.iter().map(usize::to_string).collect();
        eprintln!("layers kept: {}", layers.join(" "));
    }
    if let Some(moved) = &report.layer_distances {
        let moved: Vec<String> = moved.iter().map(|m| format!("{m:.4}")).collect();
        eprintln!("their scores: {}", moved.join(" "));
    }
    if let Some(covers) = report.vocabulary_coverage {
        eprintln!("{:.2} % of the counted tokens are kept", 100.0 * covers);
    }
    println!("{}", out.display());
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn numbers_have_units() {
        assert_eq!(count("35M"), Ok(35_000_000));
        assert_eq!(count("1.8B"), Ok(1_800_000_000));
        assert_eq!(count("12345"), Ok(12_345));
        for wrong in ["", "M", "35X", "-1", "0", "1e30", "nan"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
