//! The sequence of batches: the same however often it is stopped, on any threads, for any ranks.

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use retort_data::{
    Batch, Data, DataConfig, Error, Loader, Rank, Tokenizer, documents, is_validation, stories,
};
use serde_json::json;
use support::{config, json_shard, open, shards, story_shards, take, text_shard, tokenizer};

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

struct Fixture {
    dir: tempfile::TempDir,
    tokenizer: Arc<Tokenizer>,
}

impl Fixture {
    fn new() -> Self {
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

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn config(&self, packing: &str, window: usize, mixed: bool, seq_len: usize) -> DataConfig {
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

/// Each row of a batch: its inputs and targets.
fn rows(batch: &Batch) -> Vec<(Vec<i32>, Vec<i32>)> {
    let chunks = batch.inputs.chunks(batch.seq_len);
    chunks
        .zip(batch.targets.chunks(batch.seq_len))
        .map(|(i, t)| (i.to_vec(), t.to_vec()))
        .collect()
}

#[test]
fn stopping_anywhere_any_number_of_times_changes_no_batch() {
    let fixture = Fixture::new();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(48));
    let strategy = (
        prop::sample::select(vec!["concat", "best_fit"]),
        prop::sample::select(vec![1usize, 5, 30, 1000]),
        any::<bool>(),
        prop::sample::select(vec![8usize, 33, 200]),
        1usize..5,
        prop::collection::vec((0usize..40, 1usize..4), 1..8),
    );
    runner
        .run(
            &strategy,
            |(packing, window, mixed, seq_len, batch_size, stops)| {
                let mut config = fixture.config(packing, window, mixed, seq_len);
                let data = open(&config, &fixture.tokenizer).unwrap();
                let n: usize = stops.iter().map(|(n, _)| n).sum();
                let (whole, end) = take(&data, batch_size, Rank::default(), &data.start(), n);
                let (mut pieces, mut cursor) = (Vec::new(), data.start());
                for (n, threads) in stops {
                    // Each piece as another process would do it, on another number of threads.
                    config.threads = threads;
                    let data =
                        Data::open(&config, &fixture.tokenizer, None, Some(&cursor), &|_| ())
                            .unwrap();
                    let (more, at) = take(&data, batch_size, Rank::default(), &cursor, n);
                    pieces.extend(more);
                    cursor = at;
                }
                prop_assert_eq!(pieces, whole);
                prop_assert_eq!(&cursor, &end);
                prop_assert!(serde_json::to_string(&cursor).unwrap().len() < 2048);
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn ranks_share_the_rows_and_their_number_may_change_at_any_step() {
    let fixture = Fixture::new();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(24));
    let strategy = (
        prop::sample::select(vec!["concat", "best_fit"]),
        any::<bool>(),
        prop::collection::vec((1usize..=4, 0usize..6), 1..6),
    );
    runner
        .run(&strategy, |(packing, mixed, phases)| {
            let data = open(&fixture.config(packing, 16, mixed, 24), &fixture.tokenizer).unwrap();
            let (mut seen, mut cursor) = (Vec::new(), data.start());
            for (count, steps) in phases {
                let of_ranks: Vec<_> = (0..count)
                    .map(|index| take(&data, 2, Rank { index, count }, &cursor, steps))
                    .collect();
                for (_, end) in &of_ranks {
                    prop_assert_eq!(end, &of_ranks[0].1);
                }
                for step in 0..steps {
                    of_ranks
                        .iter()
                        .for_each(|(b, _)| seen.extend(rows(&b[step])));
                }
                cursor = of_ranks[0].1.clone();
            }
            // The rows of all ranks, one after the other, are those of one rank alone.
            let mut alone = data.batches(1, Rank::default(), None).unwrap();
            for row in seen {
                prop_assert_eq!(&rows(&alone.next_batch().unwrap())[0], &row);
            }
            prop_assert_eq!(alone.cursor(), cursor);
            Ok(())
        })
        .unwrap();
}

/// Every document of the training side is in each epoch once, whole but for the end of the epoch,
/// and the next epoch has another order.
#[test]
fn an_epoch_of_concatenation_is_every_training_document_once() {
    let fixture = Fixture::new();
    let config = fixture.config("concat", 8, false, 16);
    let data = open(&config, &fixture.tokenizer).unwrap();
    let mut expected: Vec<Vec<u32>> = documents(&shards(Path::new(&config.source)).unwrap())
        .map(Result::unwrap)
        .filter(|text| !is_validation(text, config.validation_fraction))
        .map(|text| fixture.tokenizer.encode(&text).unwrap())
        .collect();
    expected.sort();
    let eot = fixture.tokenizer.eot();
    let mut batches = data.batches(1, Rank::default(), None).unwrap();
    let mut row = batches.next_batch().unwrap();
    let mut epochs: Vec<Vec<u32>> = Vec::new();
    for epoch in 1..=3 {
        let mut ids = vec![row.inputs[0] as u32];
        // The first row of the next epoch is the first after which the cursor lies in it.
        while batches.cursor().epochs()[0] < epoch {
            assert_eq!(ids.last(), Some(&(row.inputs[0] as u32)));
            ids.extend(row.targets.iter().map(|&id| id as u32));
            row = batches.next_batch().unwrap();
        }
        epochs.push(ids);
    }
    for ids in &epochs {
        let mut found: Vec<&[u32]> = ids.split(|&id| id == eot).collect();
        // What did not fill the last row is missing: one document's end, and short ones after it.
        let cut = found.pop().unwrap();
        let mut left = expected.clone();
        for document in found {
            let at = left.binary_search_by(|d| d.as_slice().cmp(document));
            left.remove(at.expect("a training document, once"));
        }
        assert!(left.iter().any(|document| document.starts_with(cut)));
        let missing: usize = left.iter().map(|d| d.len() + 1).sum();
        assert!(missing - cut.len() <= 16, "{missing}");
    }
    assert_ne!(epochs[0], epochs[1]);
    assert_ne!(epochs[1], epochs[2]);
    let counts = batches.counts();
    assert_eq!(counts.documents, 3 * expected.len() as u64);
    let used: u64 = epochs.iter().map(|ids| ids.len() as u64).sum();
    assert_eq!(counts.tokens - counts.cropped, used);
}

#[test]
fn best_fit_rows_hold_whole_documents_and_start_with_one() {
    let fixture = Fixture::new();
    let config = fixture.config("best_fit", 1000, false, 120);
    let data = open(&config, &fixture.tokenizer).unwrap();
    let eot = fixture.tokenizer.eot();
    // Documents with their end, cropped to a row.
    let mut expected: Vec<Vec<u32>> = documents(&shards(Path::new(&config.source)).unwrap())
        .map(Result::unwrap)
        .filter(|text| !is_validation(text, config.validation_fraction))
        .map(|text| fixture.tokenizer.encode(&text).unwrap())
        .map(|ids| ids.into_iter().chain([eot]).take(121).collect())
        .collect();
    let mut batches = data.batches(1, Rank::default(), None).unwrap();
    let (mut padded, mut cropped) = (0, 0);
    while !expected.is_empty() {
        let batch = batches.next_batch().unwrap();
        let mut ids = vec![batch.inputs[0] as u32];
        ids.extend(batch.targets.iter().filter(|&&t| t >= 0).map(|&t| t as u32));
        assert_eq!(ids.len(), batch.tokens() + 1);
        padded += 121 - ids.len();
        // Padding is at the end, and repeats the last id.
        assert!(
            batch.targets[batch.tokens()..]
                .iter()
                .all(|&t| t == Batch::IGNORE)
        );
        for i in batch.tokens() + 1..120 {
            assert_eq!(batch.inputs[i] as u32, *ids.last().unwrap());
        }
        let starts: Vec<usize> = (0..ids.len())
            .filter(|&i| i == 0 || ids[i - 1] == eot)
            .collect();
        for (i, &start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(ids.len());
            let at = expected.iter().position(|d| d[..] == ids[start..end]);
            let document = expected.remove(at.expect("a document, whole, once"));
            cropped += usize::from(document.last() != Some(&eot));
            for j in start..end.min(120) {
                assert_eq!(
                    (batch.documents[j], batch.positions[j]),
                    (i as i32, (j - start) as i32)
                );
            }
        }
    }
    assert!(cropped > 0 && padded > 0);
    let counts = batches.counts();
    assert_eq!(counts.padded, padded as u64);
    assert!(counts.cropped > 0);
    assert!(
        padded * 10 < 121 * batches.cursor().rows() as usize,
        "{padded}"
    );
}

#[test]
fn boundaries_and_positions_begin_anew_with_each_document() {
    let fixture = Fixture::new();
    let data = open(&fixture.config("concat", 8, false, 50), &fixture.tokenizer).unwrap();
    let mut batches = data.batches(3, Rank::default(), None).unwrap();
    let mut several = 0;
    for _ in 0..20 {
        let batch = batches.next_batch().unwrap();
        for row in 0..3 {
            let (mut document, mut position) = (0, 0);
            for i in row * 50..(row + 1) * 50 {
                assert_eq!(
                    (batch.documents[i], batch.positions[i]),
                    (document, position)
                );
                position += 1;
                if batch.inputs[i] as u32 == fixture.tokenizer.eot() {
                    (document, position) = (document + 1, 0);
                }
            }
            several += usize::from(document > 1);
        }
    }
    assert!(several > 0);
}

#[test]
fn a_mixture_keeps_its_shares_at_every_place() {
    let fixture = Fixture::new();
    let data = open(&fixture.config("concat", 8, true, 10), &fixture.tokenizer).unwrap();
    let mut batches = data.batches(1, Rank::default(), None).unwrap();
    for n in 1..200u64 {
        batches.next_batch().unwrap();
        let cursor = serde_json::to_value(batches.cursor()).unwrap();
        let first = cursor["sources"][0]["rows"].as_f64().unwrap();
        assert!((first - 0.75 * n as f64).abs() < 1.0, "{first} of {n}");
    }
}

#[test]
fn no_validation_row_has_a_training_document() {
    let fixture = Fixture::new();
    let config = fixture.config("best_fit", 100, false, 2000);
    let data = open(&config, &fixture.tokenizer).unwrap();
    let held: Vec<String> = documents(&shards(Path::new(&config.source)).unwrap())
        .map(Result::unwrap)
        .filter(|text| is_validation(text, config.validation_fraction))
        .collect();
    let mut expected: HashMap<Vec<u32>, i32> = HashMap::new();
    for text in &held {
        let ids = fixture.tokenizer.encode(text).unwrap();
        *expected.entry(ids).or_default() += 1;
    }
    assert!(!held.is_empty() && !data.validation().is_empty());
    for row in data.validation().rows() {
        let mut ids = row.ids.clone();
        assert_eq!(ids.pop(), Some(fixture.tokenizer.eot()));
        for document in ids.split(|&id| id == fixture.tokenizer.eot()) {
            *expected.get_mut(document).expect("a held-out document") -= 1;
        }
    }
    assert!(expected.values().all(|&n| n == 0));
}

#[test]
fn filters_leave_out_and_count() {
    let fixture = Fixture::new();
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        "the same text twice in one source",
        "0123456789 0123456789 012345",
    );
    text_shard(
        &dir.path().join("a.parquet"),
        &[a, "short", b, "kept once, here"],
        2,
    );
    text_shard(
        &dir.path().join("b.parquet"),
        &[a, &"long ".repeat(100), "kept as well, there"],
        2,
    );
    let config = config(json!({
        "source": dir.path(), "seq_len": 4, "validation_fraction": 0.0, "seed": 3,
        "filter": {"min_bytes": 10, "max_bytes": 300, "min_ascii_letters": 0.5, "drop_duplicates": true},
    }));
    let beside = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let data = Data::open(
            &config,
            &fixture.tokenizer,
            Some(beside.path()),
            None,
            &|_| (),
        );
        let mut batches = data.unwrap().batches(1, Rank::default(), None).unwrap();
        while batches.cursor().epochs()[0] == 0 {
            batches.next_batch().unwrap();
        }
        let counts = batches.counts();
        let left_out = (
            counts.too_short,
            counts.too_long,
            counts.not_ascii,
            counts.duplicates,
        );
        assert_eq!((left_out, counts.documents), ((1, 1, 1, 1), 3));
        assert!(counts.to_string().contains("1 duplicates"), "{counts}");
        // The second time the places come from the file.
        assert_eq!(std::fs::read_dir(beside.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_cursor_of_other_data_is_refused_and_says_what_differs() {
    let fixture = Fixture::new();
    let config = fixture.config("concat", 8, false, 10);
    let start = open(&config, &fixture.tokenizer).unwrap().start();
    let message = |config: &DataConfig, tokenizer: &Arc<Tokenizer>| {
        Data::open(config, tokenizer, None, Some(&start), &|_| ())
            .err()
            .map(|e| e.to_string())
    };
    assert_eq!(message(&config, &fixture.tokenizer), None);
    let mut other = config.clone();
    other.source = fixture.path("second");
    assert!(
        message(&other, &fixture.tokenizer)
            .unwrap()
            .contains("shards")
    );
    other = config.clone();
    other.seq_len = 11;
    assert!(
        message(&other, &fixture.tokenizer)
            .unwrap()
            .contains("settings")
    );
    let dir = tempfile::tempdir().unwrap();
    story_shards(dir.path());
    let trained = retort_data::train_tokenizer(&shards(dir.path()).unwrap(), 300, &|_| ());
    assert!(
        message(&config, &Arc::new(trained.unwrap()))
            .unwrap()
            .contains("tokenizer")
    );
    // What the rows do not depend on may change.
    other = config.clone();
    (other.threads, other.max_validation_rows) = (3, 1);
    assert_eq!(message(&other, &fixture.tokenizer), None);
    let version = serde_json::to_string(&start)
        .unwrap()
        .replace("\"version\":1", "\"version\":9");
    let version = serde_json::from_str(&version).unwrap();
    let refused = Data::open(&config, &fixture.tokenizer, None, Some(&version), &|_| ());
    assert!(refused.err().unwrap().to_string().contains("version 9"));
}

#[test]
fn too_little_text_is_an_error_and_not_a_wait() {
    let fixture = Fixture::new();
    let dir = tempfile::tempdir().unwrap();
    text_shard(&dir.path().join("tiny.parquet"), &["tiny"], 10);
    for packing in ["concat", "best_fit"] {
        let fraction = if packing == "concat" { 0.0 } else { 0.999 };
        let config = config(json!({
            "source": dir.path(), "packing": packing, "validation_fraction": fraction,
        }));
        let data = open(&config, &fixture.tokenizer).unwrap();
        let mut loader = Loader::start(data.batches(1, Rank::default(), None).unwrap()).unwrap();
        let error = loader.next_batch().err().unwrap();
        assert!(matches!(error, Error::TooSmall { .. }), "{error}");
        assert!(loader.next_batch().is_err());
    }
}

#[test]
fn the_loader_gives_the_batches_with_their_cursors() {
    let fixture = Fixture::new();
    let data = open(&fixture.config("best_fit", 8, true, 40), &fixture.tokenizer).unwrap();
    let mut batches = data.batches(2, Rank::default(), None).unwrap();
    let mut loader = Loader::start(data.batches(2, Rank::default(), None).unwrap()).unwrap();
    for _ in 0..30 {
        let loaded = loader.next_batch().unwrap();
        assert_eq!(loaded.batch, batches.next_batch().unwrap());
        assert_eq!(loaded.cursor, batches.cursor());
    }
}

#[test]
fn impossible_settings_name_their_field() {
    let fixture = Fixture::new();
    let refused = |fields: serde_json::Value| {
        let mut all = json!({"source": fixture.path("first")});
        all.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        open(&config(all), &fixture.tokenizer)
            .err()
            .unwrap()
            .to_string()
    };
    assert!(refused(json!({"seq_len": 0})).contains("data.seq_len"));
    assert!(refused(json!({"source": ""})).contains("data.source"));
    assert!(refused(json!({"mixture": [{"source": "x", "weight": 1}]})).contains("data.mixture"));
    assert!(refused(json!({"validation_fraction": 1.0})).contains("data.validation_fraction"));
    assert!(refused(json!({"shuffle_window": 0})).contains("data.shuffle_window"));
    assert!(refused(json!({"filter": {"min_ascii_letters": 2.0}})).contains("min_ascii_letters"));
    let weights = json!({"source": "", "mixture": [{"source": "x", "weight": 0.0}]});
    assert!(refused(weights).contains("weight"));
    let data = open(
        &config(json!({"source": fixture.path("first")})),
        &fixture.tokenizer,
    )
    .unwrap();
    assert!(data.batches(0, Rank::default(), None).is_err());
    assert!(data.batches(1, Rank { index: 2, count: 2 }, None).is_err());
    let unknown = r#"{"source": "s", "tokenizer": "t", "seq_length": 8}"#;
    assert!(serde_json::from_str::<DataConfig>(unknown).is_err());
}
