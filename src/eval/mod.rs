//! `retort eval`: accuracy and perplexity of a model on tasks, or its divergence from the model it was
//! quantized from.

mod args;
mod backend;
mod compare;
mod output;

use std::num::NonZeroUsize;
use std::path::Path;

use retort_engine::decoder::{EngineSettings, KvType};
use retort_eval::tasks::{LoadOptions, LoadedTask, Task, results_json};
use serde_json::json;

use compare::{Comparison, compare};

pub use args::Args;

pub fn run(args: &Args) -> anyhow::Result<()> {
    for path in args.json.iter().chain(&args.items) {
        output::check_writable(path)?;
    }
    if let (Some(parent), Some(text)) = (&args.against, &args.text) {
        return compare_with_parent(args, parent, text);
    }
    let options = LoadOptions {
        dirs: args.data.clone(),
        limit: args.limit,
        shots: args.shots,
    };
    let mut tasks = Vec::new();
    for name in &args.tasks {
        tasks.push(LoadedTask::new(Task::find(name)?, &options)?);
    }
    let gguf = args.model.extension().is_some_and(|e| e == "gguf");
    let (path, evaluations) = if gguf {
        (args.model.clone(), backend::by_engine(args, &tasks)?)
    } else {
        backend::by_burn(args, &tasks)?
    };
    let config = json!({
        "model": path.display().to_string(),
        "model_bytes": backend::model_bytes(&path)?,
        "backend": if gguf { "retort-engine" } else { "burn" },
        "limit": args.limit,
        "max_length": args.max_length,
    });
    let json = format!("{:#}\n", results_json(&evaluations, config));
    output::print(args.json.as_deref(), &json, &output::table(&evaluations))
}

/// Divergence of the model from its parent on a text.
fn compare_with_parent(args: &Args, parent: &Path, text: &Path) -> anyhow::Result<()> {
    let comparison = Comparison {
        model: &args.model,
        parent,
        text,
        context: args.max_length.map_or(512, NonZeroUsize::get),
        windows: args.windows,
    };
    let figures = compare(
        &comparison,
        EngineSettings::new(args.threads, false, KvType::F32)?,
    )?;
    let json = format!("{:#}\n", figures.json());
    output::print(args.json.as_deref(), &json, &figures.table())
}
