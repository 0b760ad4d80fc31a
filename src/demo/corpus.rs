//! The demo's text: much of it for the teacher, a little for the students, some that no model sees.
//!
//! Out: `corpus/*.parquet`, `own/*.parquet` and `tokenizer/` in the demo's directory.

use std::path::Path;
use std::sync::Arc;

use retort_data::stories::{self, Story};
use retort_data::{Shards, SourceOptions};
use retort_tokenizer::Tokenizer;

use crate::progress;

/// What the teacher is trained on.
const TEACHER_STORIES: usize = 20_000;
/// What the students are trained on: the text of one's own, half of it kept for validation.
const OWN_STORIES: usize = 200;
/// What all models are measured on.
const HELD_OUT_STORIES: usize = 200;
const VOCABULARY: usize = 512;

/// Stories that are in no model's training or validation text.
pub struct HeldOut {
    /// Each story's ids between two end-of-text ids.
    pub rows: Vec<Vec<u32>>,
    /// The stories' entropy in nats a token: no model's loss can be lower in expectation.
    pub entropy: f64,
    /// Beginnings of three more such stories.
    pub prompts: Vec<String>,
}

/// Writes the text and the tokenizer into `out`. Teacher's, students' and held-out stories come
/// from three consecutive seeds.
pub fn make(out: &Path, seed: u64) -> anyhow::Result<HeldOut> {
    let corpus = out.join("corpus");
    stories::write_parquet(&corpus, &stories::generate(seed, TEACHER_STORIES), 2)?;
    let own = stories::generate(seed.wrapping_add(1), OWN_STORIES);
    stories::write_parquet(out.join("own"), &own, 1)?;
    let (bar, show) = progress::documents();
    let shards = Shards::resolve(&corpus.to_string_lossy(), &SourceOptions::default())?;
    let tokenizer = retort_data::train_tokenizer(&Arc::new(shards), VOCABULARY, &show)?;
    bar.finish_and_clear();
    let directory = out.join("tokenizer");
    std::fs::create_dir_all(&directory)?;
    tokenizer.save(&directory)?;
    let mut held_out = stories::generate(seed.wrapping_add(2), HELD_OUT_STORIES + 3);
    let prompts = held_out.split_off(HELD_OUT_STORIES);
    Ok(HeldOut {
        prompts: prompts.iter().map(beginning).collect(),
        ..measure(&held_out, &tokenizer)?
    })
}

fn measure(stories: &[Story], tokenizer: &Tokenizer) -> anyhow::Result<HeldOut> {
    let (mut rows, mut nats, mut tokens) = (Vec::new(), 0.0, 0);
    for story in stories {
        let mut row = vec![tokenizer.eot()];
        row.extend(tokenizer.encode(&story.text)?);
        row.push(tokenizer.eot());
        nats += story.nats;
        tokens += row.len() - 1;
        rows.push(row);
    }
    Ok(HeldOut {
        rows,
        entropy: nats / tokens as f64,
        prompts: Vec::new(),
    })
}

/// A story's first fourteen words.
fn beginning(story: &Story) -> String {
    let words: Vec<&str> = story.text.split_inclusive(' ').take(14).collect();
    words.concat().trim_end().to_owned()
}
