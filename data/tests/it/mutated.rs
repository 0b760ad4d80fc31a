//! Shards that were tampered with.

use crate::ALLOCATED;
use crate::support::{json_shard, shards, text_shard};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retort_data::documents;
use retort_test_kit::alone;
use serde_json::json;

/// Thousands of mutated files: documents or an error, never a panic, never much memory.
#[test]
fn mutated_shards_are_errors_or_documents() {
    if !alone("mutated::mutated_shards_are_errors_or_documents") {
        return;
    }
    const LIMIT: usize = 96 << 20;
    let dir = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..40).map(|i| format!("document number {i}")).collect();
    let (one, two, three) = ("a.parquet", "b.json.gz", "c.jsonl");
    text_shard(&dir.path().join(one), &texts, 15);
    json_shard(&dir.path().join(two), &texts);
    let lines: String = texts
        .iter()
        .map(|t| json!({"text": t}).to_string() + "\n")
        .collect();
    std::fs::write(dir.path().join(three), lines).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut failures = 0;
    ALLOCATED.reset_peak_usage();
    for (name, n) in [(one, 1500), (two, 500), (three, 500)] {
        let path = dir.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        for i in 0..n {
            let mut bytes = whole.clone();
            let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
            match i % 4 {
                0 => bytes.truncate(below(whole.len())),
                1 => {
                    let (at, from) = (below(whole.len()), below(whole.len()));
                    let n = below(30).min(whole.len() - at.max(from));
                    bytes.copy_within(from..from + n, at);
                }
                _ => (0..=i % 3).for_each(|_| bytes[below(whole.len())] = below(256) as u8),
            }
            std::fs::write(&path, &bytes).unwrap();
            let mut all = documents(&shards(&path).unwrap());
            if all.any(|document| document.is_err()) {
                failures += 1;
                assert!(all.next().is_none());
            }
        }
    }
    assert!(failures > 750, "{failures}");
    let peak = ALLOCATED.peak_usage();
    assert!(peak < LIMIT, "{peak} bytes");
}
