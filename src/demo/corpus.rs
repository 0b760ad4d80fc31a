//! The demo's text and tokenizer.

use std::path::Path;

use retort_data::{
    Tokenizer,
    stories::{self, Story},
};

use super::runs::Run;
use crate::progress;

const SEED: u64 = 1;
const STORIES: usize = 20_000;
const SHARDS: usize = 2;
const VOCABULARY: usize = 512;

/// What the later stages need to know of the corpus.
pub struct Corpus {
    stories: Vec<Story>,
    /// Beginnings of stories that no model was trained on.
    pub prompts: Vec<String>,
}

/// Writes `out/corpus/*.parquet` and `out/tokenizer/`.
pub fn make(out: &Path) -> anyhow::Result<Corpus> {
    let stories = stories::generate(SEED, STORIES);
    let paths = stories::write_parquet(out.join("corpus"), &stories, SHARDS)?;
    let (bar, show) = progress::documents("tokenizer");
    let tokenizer: Tokenizer = retort_data::train_tokenizer(&paths, VOCABULARY, &show)?;
    bar.finish_and_clear();
    let directory = out.join("tokenizer");
    std::fs::create_dir_all(&directory)?;
    tokenizer.save(&directory)?;
    // Another seed: stories that are in no shard.
    let prompts = stories::generate(SEED + 1, 3)
        .into_iter()
        .map(|story| {
            let words: Vec<&str> = story.text.split_inclusive(' ').take(14).collect();
            words.concat().trim_end().to_owned()
        })
        .collect();
    Ok(Corpus { stories, prompts })
}

impl Corpus {
    /// The validation stories' entropy, in nats a token of `run`'s data: no model's loss
    /// can be lower in expectation.
    pub fn floor(&self, run: &Run) -> f64 {
        stories::floor(&self.stories, run.validation_fraction).per_token(run.validation_tokens)
    }
}
