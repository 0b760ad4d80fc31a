//! Memory of a stream.

use std::sync::Arc;

use crate::ALLOCATED;
use crate::support::{config, open, text_shard, tokenizer};
use retort_data::Rank;
use retort_test_kit::alone;
use serde_json::json;

/// A shard is read in bounded memory, whatever its size and the size of its row groups.
#[test]
fn memory_does_not_grow_with_the_shard() {
    if !alone("memory::memory_does_not_grow_with_the_shard") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = Arc::new(tokenizer());
    let text = "A kite of forty bytes flew over the hill. ".repeat(100);
    let mut peaks = Vec::new();
    for documents in [6_000, 18_000] {
        let texts: Vec<String> = (0..documents).map(|i| format!("{i} {text}")).collect();
        text_shard(&dir.path().join("a.parquet"), &texts, documents);
        drop(texts);
        let config = config(json!({
            "source": dir.path(), "seq_len": 256, "validation_fraction": 0.0, "threads": 1,
        }));
        ALLOCATED.reset_peak_usage();
        let before = ALLOCATED.current_usage();
        let data = open(&config, &tokenizer).unwrap();
        let mut batches = data.batches(8, Rank::default(), None).unwrap();
        while batches.cursor().epochs()[0] == 0 {
            batches.next_batch().unwrap();
        }
        peaks.push(ALLOCATED.peak_usage() - before);
    }
    assert!(peaks[1] < peaks[0] + peaks[0] / 4, "{peaks:?}");
    assert!(peaks[1] < 160 << 20, "{peaks:?}");
}
