//! The demo's text and tokenizer.

use std::path::Path;
use std::sync::Arc;

use retort_data::stories::{self, Story};
use retort_data::{Shards, SourceOptions, is_validation};
use retort_tokenizer::Tokenizer;

use super::runs::Run;
use crate::progress;

const SEED: u64 = 1;
const STORIES: usize = 20_000;
const SHARDS: usize = 2;
const VOCABULARY: usize = 512;

/// What the later stages need to know of the corpus.
pub struct Corpus {
    stories: Vec<Story>,
    tokenizer: Tokenizer,
    /// Beginnings of stories that no model was trained on.
    pub prompts: Vec<String>,
}

/// Writes `out/corpus/*.parquet` and `out/tokenizer/`.
pub fn make(out: &Path) -> anyhow::Result<Corpus> {
    let stories = stories::generate(SEED, STORIES);
    let corpus = out.join("corpus");
    stories::write_parquet(&corpus, &stories, SHARDS)?;
    let (bar, show) = progress::documents();
    let shards = Shards::resolve(&corpus.to_string_lossy(), &SourceOptions::default())?;
    let tokenizer = retort_data::train_tokenizer(&Arc::new(shards), VOCABULARY, &show)?;
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
    Ok(Corpus {
        stories,
        tokenizer,
        prompts,
    })
}

impl Corpus {
    /// The validation stories' entropy, in nats a token of `run`'s data: no model's loss
    /// can be lower in expectation.
    pub fn floor(&self, run: &Run) -> anyhow::Result<f64> {
        let fraction = run.validation_fraction;
        let mut tokens = 0;
        for story in &self.stories {
            if is_validation(&story.text, fraction) {
                tokens += self.tokenizer.encode(&story.text)?.len() as u64 + 1;
            }
        }
        Ok(stories::floor(&self.stories, fraction, tokens))
    }
}
