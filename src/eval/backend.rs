//! Evaluation by the edge engine on a GGUF file, or by Burn on a Hugging Face directory.

use std::path::{Path, PathBuf};

use anyhow::Context;
use retort_engine::Model;
use retort_engine::decoder::{EngineSettings, KvType};
use retort_eval::tasks::{
    BurnScorer, EngineScorer, Evaluation, LoadedTask, Scorer, evaluate_with, item_json,
};
use retort_tokenizer::Tokenizer;

use super::args::Args;
use super::output::ItemsFile;
use crate::progress;

/// Bytes of a file, or of a checkpoint's weights.
pub fn model_bytes(path: &Path) -> anyhow::Result<u64> {
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
        // A training checkpoint has the trainer's state in other safetensors files.
        if weights && entry.file_name().to_string_lossy().starts_with("model") {
            bytes += entry.path().metadata()?.len();
        }
    }
    Ok(bytes)
}

/// Evaluates a GGUF file, with keys and values in full precision.
pub fn by_engine(args: &Args, tasks: &[LoadedTask]) -> anyhow::Result<Vec<Evaluation>> {
    let settings = EngineSettings::new(args.threads, false, KvType::F32)?;
    let model = Model::open_with(&args.model, settings)?;
    let mut scorer = EngineScorer::new(&model, args.max_length)?;
    evaluate_tasks(args, tasks, &mut scorer)
}

/// Evaluates a Hugging Face directory; returns the checkpoint that was read.
pub fn by_burn(args: &Args, tasks: &[LoadedTask]) -> anyhow::Result<(PathBuf, Vec<Evaluation>)> {
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .build_global()?;
    }
    let checkpoint = retort_train::model_directory(&args.model)?;
    let device = retort_train::device(&args.device)?;
    let (_, model) = retort_model::load(&checkpoint, &device)?;
    let tokenizer = Tokenizer::from_file(&checkpoint, None)?;
    let scorer = BurnScorer::new(&model, &tokenizer, args.max_length, args.batch_tokens);
    let evaluations = evaluate_tasks(args, tasks, &mut scorer?)?;
    Ok((checkpoint, evaluations))
}

/// Evaluates `scorer`'s model, with a progress bar, or without a terminal a line now and then.
fn evaluate_tasks(
    args: &Args,
    tasks: &[LoadedTask],
    scorer: &mut dyn Scorer,
) -> anyhow::Result<Vec<Evaluation>> {
    let bar = progress::bar("", 0);
    let pace = progress::Pace::later();
    let mut shown = String::new();
    let mut items = args.items.as_deref().map(ItemsFile::new).transpose()?;
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
