//! The sequence of batches: the same however often it is stopped, on any threads, for any ranks.

use proptest::prelude::*;
use retort_data::{Batch, Data, Error, Loader, Rank};
use serde_json::json;

use crate::fixture::Fixture;
use crate::support::{config, open, take, text_shard};

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
