//! The arguments of `retort eval`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Evaluate a model on tasks: accuracy of its answers, perplexity of texts, right completions
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  retort eval web-4m.gguf --tasks arc_challenge,hellaswag,piqa --data eval\n  \
    retort eval runs/web-4m --tasks my_task.toml --data . --limit 100 --items items.jsonl\n  \
    retort eval web-4m.gguf --against runs/web-4m --text wiki.test.raw --windows 24\n\n\
    Built-in tasks: arc_challenge, arc_easy, bbh, bbh_cot, boolq, chid, commonsense_qa, gsm8k, hellaswag, humaneval,\n\
    lambada_openai, longbench, mmlu, openbookqa, piqa, truthfulqa_mc1, truthfulqa_mc2, wikitext, winogrande"
)]
pub struct Args {
    /// A .gguf file, a Hugging Face directory, or a run directory (its newest checkpoint)
    pub model: PathBuf,
    /// Names of built-in tasks, or paths to a task's .toml
    #[arg(
        long,
        value_delimiter = ',',
        required_unless_present = "against",
        value_name = "TASK,…"
    )]
    pub tasks: Vec<String>,
    /// The directory of the tasks' data files (may be repeated)
    #[arg(long, required_unless_present = "against", value_name = "DIR")]
    pub data: Vec<PathBuf>,
    /// Instead of tasks: the divergence from PARENT, the file or directory that the model was quantized from
    #[arg(
        long,
        value_name = "PARENT",
        requires = "text",
        conflicts_with_all = ["tasks", "data", "limit", "shots", "items"]
    )]
    pub against: Option<PathBuf>,
    /// The text for --against, a UTF-8 file
    #[arg(long, value_name = "FILE", requires = "against")]
    pub text: Option<PathBuf>,
    /// Use only the first N windows of the text
    #[arg(long, value_name = "N", requires = "against")]
    pub windows: Option<usize>,
    /// Use only the first N items of each task
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Few-shot examples before each question, instead of the task's own number
    #[arg(long, value_name = "N")]
    pub shots: Option<usize>,
    /// Write the results as JSON to FILE; - prints them instead of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write every item's log-likelihoods and predictions, or its completion, to FILE, one JSON object a line, as soon as
    /// the item is answered
    #[arg(long, value_name = "FILE.jsonl")]
    pub items: Option<PathBuf>,
    /// Most tokens of context, instead of the model's own; with --against the tokens of a window [default: 512]
    #[arg(long, value_name = "N")]
    pub max_length: Option<NonZeroUsize>,
    /// Tokens of a batch, for a Hugging Face directory
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub batch_tokens: usize,
    /// The device for a directory: cpu (burn-flex), ndarray, or in a build with the feature: wgpu, vulkan, cuda
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads [default: one per fast core]
    #[arg(long, value_name = "T")]
    pub threads: Option<NonZeroUsize>,
}
