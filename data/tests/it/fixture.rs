//! Two sources in several files and formats, and recipes that read them.

use std::path::Path;
use std::sync::Arc;

use retort_data::{DataConfig, stories};
use retort_tokenizer::Tokenizer;
use serde_json::json;

use crate::support::{config, json_shard, text_shard, tokenizer};

/// Documents of very different lengths, some empty.
fn texts(n: usize, seed: u64) -> Vec<String> {
    stories::generate(seed, n)
        .into_iter()
        .enumerate()
        .map(|(i, story)| match i % 7 {
            0 => String::new(),
            1 => story.text.chars().take(20).collect(),
            2 => story.text.repeat(3),
            _ => story.text,
        })
        .collect()
}

/// A source of two parquet shards in small row groups and one of JSON lines.
fn source(dir: &Path, seed: u64) {
    let texts = texts(90, seed);
    text_shard(&dir.join("a.parquet"), &texts[..40], 7);
    text_shard(&dir.join("b.parquet"), &texts[40..60], 300);
    json_shard(&dir.join("c.json.gz"), &texts[60..]);
}

pub struct Fixture {
    dir: tempfile::TempDir,
    pub tokenizer: Arc<Tokenizer>,
}

impl Fixture {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, seed) in [("first", 1), ("second", 2)] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            source(&dir.path().join(name), seed);
        }
        Self {
            dir,
            tokenizer: Arc::new(tokenizer()),
        }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub fn config(&self, packing: &str, window: usize, mixed: bool, seq_len: usize) -> DataConfig {
        let mut fields = json!({
            "seq_len": seq_len, "packing": packing, "shuffle_window": window, "seed": 5,
            "validation_fraction": 0.1, "threads": 1,
        });
        if mixed {
            fields["mixture"] = json!([
                {"source": self.path("first"), "weight": 3.0},
                {"source": self.path("second"), "weight": 1.0},
            ]);
        } else {
            fields["source"] = json!(self.path("first"));
        }
        config(fields)
    }
}
