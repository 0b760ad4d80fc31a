//! `retort eval`: accuracies and perplexities of a model on tasks of question and answer.

use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use retort_engine::Model;
use retort_engine::decoder::{KvType, Settings};
use retort_eval::eval::{
    BurnScorer, EngineScorer, Error, Evaluation, Loaded, Options, Scorer, Task, evaluate_with,
    item_json, results_json,
};
use retort_files::AtomicFile;
use retort_tokenizer::Tokenizer;
use serde_json::json;

use crate::against::{Comparison, compare};
use crate::progress;

/// Measure a model on tasks: which answer it finds likeliest, how well it predicts text
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
    model: PathBuf,
    /// Names of built-in tasks, or paths to a task's .toml
    #[arg(
        long,
        value_delimiter = ',',
        required_unless_present = "against",
        value_name = "TASK,…"
    )]
    tasks: Vec<String>,
    /// Where the tasks' files are; may be given several times
    #[arg(long, required_unless_present = "against", value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Instead of tasks: how far the model is from PARENT, the file or directory that it was quantized from
    #[arg(
        long,
        value_name = "PARENT",
        requires = "text",
        conflicts_with_all = ["tasks", "data", "limit", "shots", "items"]
    )]
    against: Option<PathBuf>,
    /// The text that both read, a UTF-8 file
    #[arg(long, value_name = "FILE", requires = "against")]
    text: Option<PathBuf>,
    /// Only the first so many windows of the text
    #[arg(long, value_name = "N", requires = "against")]
    windows: Option<usize>,
    /// Only the first so many items of each task
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Examples before each question, instead of what the task says
    #[arg(long, value_name = "N")]
    shots: Option<usize>,
    /// Write the figures here as JSON; - prints them instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write every item's log-likelihoods and predictions, or what the model wrote, here, one JSON object a line, as they
    /// are answered: what is there when a run ends early stays
    #[arg(long, value_name = "FILE.jsonl")]
    items: Option<PathBuf>,
    /// Tokens of context at most, instead of the model's own; with --against, of a window [default there: 512]
    #[arg(long, value_name = "N")]
    max_length: Option<NonZeroUsize>,
    /// Tokens that go through a Hugging Face directory's model together
    #[arg(long, value_name = "N", default_value_t = 1024)]
    batch_tokens: usize,
    /// For a directory: cpu (burn-flex), ndarray, or in a build with the feature: wgpu, vulkan, cuda
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads that compute; by default one per fast core
    #[arg(long, value_name = "T")]
    threads: Option<NonZeroUsize>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    for path in args.json.iter().chain(&args.items) {
        writable(path)?;
    }
    if let (Some(parent), Some(text)) = (&args.against, &args.text) {
        return beside(args, parent, text);
    }
    let options = Options {
        dirs: args.data.clone(),
        limit: args.limit,
        shots: args.shots,
    };
    let mut tasks = Vec::new();
    for name in &args.tasks {
        tasks.push(Loaded::new(Task::find(name)?, &options)?);
    }
    let gguf = args.model.extension().is_some_and(|e| e == "gguf");
    let (path, evaluations) = match gguf {
        true => (args.model.clone(), through_engine(args, &tasks)?),
        false => through_burn(args, &tasks)?,
    };
    let config = json!({
        "model": path.display().to_string(),
        "model_bytes": size(&path)?,
        "backend": if gguf { "retort-engine" } else { "burn" },
        "limit": args.limit,
        "max_length": args.max_length,
    });
    let json = format!("{:#}\n", results_json(&evaluations, config));
    match &args.json {
        Some(path) if path == Path::new("-") => print!("{json}"),
        Some(path) => {
            write(path, json.as_bytes())?;
            print!("{}", table(&evaluations));
        }
        None => print!("{}", table(&evaluations)),
    }
    Ok(())
}

/// How far the model is from its parent.
fn beside(args: &Args, parent: &Path, text: &Path) -> anyhow::Result<()> {
    let comparison = Comparison {
        model: &args.model,
        parent,
        text,
        context: args.max_length.map_or(512, NonZeroUsize::get),
        windows: args.windows,
    };
    let figures = compare(
        &comparison,
        Settings::new(args.threads, false, KvType::F32)?,
    )?;
    let json = format!("{:#}\n", figures.json());
    match &args.json {
        Some(path) if path == Path::new("-") => print!("{json}"),
        Some(path) => {
            write(path, json.as_bytes())?;
            print!("{}", figures.table());
        }
        None => print!("{}", figures.table()),
    }
    Ok(())
}

/// Bytes of a file, or of a checkpoint's weights.
fn size(path: &Path) -> anyhow::Result<u64> {
    let unread = || format!("{}: cannot read it", path.display());
    if path.is_file() {
        return Ok(path.metadata().with_context(unread)?.len());
    }
    let mut bytes = 0;
    for entry in path.read_dir().with_context(unread)? {
        let entry = entry?;
        let weights = Path::new(&entry.file_name())
            .extension()
            .is_some_and(|e| e == "safetensors");
        // Beside them may lie what training goes on from.
        if weights && entry.file_name().to_string_lossy().starts_with("model") {
            bytes += entry.path().metadata()?.len();
        }
    }
    Ok(bytes)
}

/// A GGUF file, with keys and values in full precision.
fn through_engine(args: &Args, tasks: &[Loaded]) -> anyhow::Result<Vec<Evaluation>> {
    let settings = Settings::new(args.threads, false, KvType::F32)?;
    let model = Model::open_with(&args.model, settings)?;
    go(
        args,
        tasks,
        &mut EngineScorer::new(&model, args.max_length)?,
    )
}

/// A Hugging Face directory; answers which.
fn through_burn(args: &Args, tasks: &[Loaded]) -> anyhow::Result<(PathBuf, Vec<Evaluation>)> {
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .build_global()?;
    }
    let checkpoint = retort_train::latest(&args.model)?.unwrap_or(args.model.clone());
    let device = retort_train::device(&args.device)?;
    let (_, model) = retort_model::load(&checkpoint, &device)?;
    let tokenizer = Tokenizer::from_file(&checkpoint, None)?;
    let scorer = BurnScorer::new(&model, &tokenizer, args.max_length, args.batch_tokens);
    let evaluations = go(args, tasks, &mut scorer?)?;
    Ok((checkpoint, evaluations))
}

/// Asks `scorer` the tasks, with a bar or, where there is no terminal, a line now and then.
fn go(args: &Args, tasks: &[Loaded], scorer: &mut dyn Scorer) -> anyhow::Result<Vec<Evaluation>> {
    let bar = progress::bar("", 0);
    let mut pace = progress::Pace::new();
    let mut shown = String::new();
    let mut items = args.items.as_deref().map(Items::new).transpose()?;
    let evaluations = evaluate_with(
        tasks,
        scorer,
        &mut |task, done, total| {
            if shown != task {
                shown = task.to_owned();
                bar.set_prefix(shown.clone());
                bar.set_length(total as u64);
                bar.reset();
            }
            bar.set_position(done as u64);
            if bar.is_hidden() && pace.due() {
                eprintln!("{task}: {done} of {total} items");
            }
        },
        &mut |task, item| match &mut items {
            Some(items) => items.write(&item_json(task, item)),
            None => Ok(()),
        },
    )?;
    bar.finish_and_clear();
    Ok(evaluations)
}

/// The file of items, each of whose lines is there for good once it is written.
struct Items<'p> {
    path: &'p Path,
    file: File,
}

impl<'p> Items<'p> {
    fn new(path: &'p Path) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("{}: cannot write it", path.display()))?;
        Ok(Self { path, file })
    }

    fn write(&mut self, line: &str) -> Result<(), Error> {
        // One call a line: a run that is killed leaves whole lines.
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|e| Error::Model(format!("{}: cannot write it: {e}", self.path.display())))
    }
}

/// A line a figure, the first with the task's name; a line for a task that has none.
fn table(evaluations: &[Evaluation]) -> String {
    let mut text = format!(
        "{:<18} {:>6} {:>5}  {:<16} {:>10} {:>9}\n",
        "task", "n", "shots", "metric", "value", "stderr"
    );
    for evaluation in evaluations {
        if evaluation.figures.is_empty() {
            let (name, n, shots) = (&evaluation.name, evaluation.n, evaluation.shots);
            text += &format!("{name:<18} {n:>6} {shots:>5}  written, see --items\n");
        }
        for (i, figure) in evaluation.figures.iter().enumerate() {
            let (name, n, shots) = match i {
                0 => (
                    evaluation.name.as_str(),
                    evaluation.n.to_string(),
                    evaluation.shots.to_string(),
                ),
                _ => ("", String::new(), String::new()),
            };
            let stderr = figure.stderr.map_or("-".into(), |e| format!("{e:.4}"));
            let metric = figure.metric.name();
            text += &format!(
                "{name:<18} {n:>6} {shots:>5}  {metric:<16} {:>10.4} {stderr:>9}\n",
                figure.value
            );
        }
    }
    text
}

/// Whether a file can be made beside `path`: known before hours are spent, not after.
fn writable(path: &Path) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return Ok(());
    }
    AtomicFile::create(path)
        .map(drop)
        .with_context(|| format!("{}: cannot write it", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    retort_files::write(path, bytes).with_context(|| format!("{}: cannot write it", path.display()))
}
