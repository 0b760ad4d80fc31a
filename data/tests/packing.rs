//! Packing, splitting and the sequence of batches.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use retort_data::{
    Batches, Cursor, DataConfig, Dataset, Error, Packed, Packer, documents, is_validation, load,
    stories,
};
use support::{story_shards, text_shard, tokenizer};

const EOT: u32 = 0;

fn pack(documents: &[Vec<u32>], vocab_size: usize, seq_len: usize) -> Packed {
    let mut packer = Packer::new(vocab_size, EOT, seq_len).unwrap();
    documents.iter().for_each(|document| packer.push(document));
    packer.finish(None)
}

/// `rows` rows of which row i holds i · len + 1 and on.
fn counting(rows: u32, seq_len: u32) -> Arc<Packed> {
    Arc::new(pack(
        &[(1..=rows * seq_len).collect()],
        1 << 20,
        seq_len as usize,
    ))
}

proptest! {
    #[test]
    fn every_token_is_a_target_once_and_in_order(
        documents in prop::collection::vec(prop::collection::vec(1u32..50_000, 0..40), 0..20),
        seq_len in 1usize..17,
        wide in any::<bool>(),
    ) {
        let packed = pack(&documents, if wide { 100_000 } else { 50_000 }, seq_len);
        let all: Vec<u32> = documents.iter().flat_map(|d| d.iter().copied().chain([EOT])).collect();
        prop_assert_eq!(packed.tokens(), all.len());
        prop_assert_eq!(packed.len(), all.len().saturating_sub(1) / seq_len);
        let mut targets = Vec::new();
        for i in 0..packed.len() {
            prop_assert_eq!(&packed.row(i), &all[i * seq_len..(i + 1) * seq_len + 1]);
            let batch = packed.batch(i..i + 1);
            prop_assert_eq!(&batch.inputs[1..], &batch.targets[..seq_len - 1]);
            targets.extend(batch.targets.iter().map(|&id| id as u32));
        }
        prop_assert_eq!(&targets[..], &all[all.len().min(1)..][..targets.len()]);
        prop_assert!(all.len().saturating_sub(1) - targets.len() < seq_len);
        // The store's width is no property of the data.
        prop_assert_eq!(packed.fingerprint(), pack(&documents, 70_000, seq_len).fingerprint());
    }

    #[test]
    fn stopping_anywhere_changes_no_batch(
        rows in 1u32..30, batch_size in 1usize..12, seed in any::<u64>(), stop in 0usize..20,
    ) {
        let packed = counting(rows, 3);
        let mut whole = Batches::new(packed.clone(), batch_size, seed, Cursor::default()).unwrap();
        (0..stop).for_each(|_| { whole.next_batch(); });
        let cursor = serde_json::to_string(&whole.cursor()).unwrap();
        let cursor = serde_json::from_str(&cursor).unwrap();
        let mut resumed = Batches::new(packed, batch_size, seed, cursor).unwrap();
        for _ in 0..10 {
            prop_assert_eq!(resumed.next_batch(), whole.next_batch());
            prop_assert_eq!(resumed.cursor(), whole.cursor());
        }
    }

    #[test]
    fn an_epoch_takes_every_row_once(
        rows in 1u32..30, batch_size in 1usize..12, seed in any::<u64>(),
    ) {
        let mut batches = Batches::new(counting(rows, 2), batch_size, seed, Cursor::default())
            .unwrap();
        let mut taken = Vec::new();
        while taken.len() < 3 * rows as usize {
            let batch = batches.next_batch();
            prop_assert_eq!((batch.rows, batch.inputs.len()), (batch_size, 2 * batch_size));
            taken.extend(batch.inputs.chunks(2).map(|row| row[0]));
        }
        for epoch in taken.chunks_exact(rows as usize) {
            let mut epoch = epoch.to_vec();
            epoch.sort_unstable();
            prop_assert_eq!(epoch, (0..rows as i32).map(|i| 2 * i + 1).collect::<Vec<_>>());
        }
    }
}

#[test]
fn seed_and_epoch_choose_the_order() {
    let rows = |seed, epoch| {
        let cursor = Cursor { epoch, row: 0 };
        Batches::new(counting(100, 1), 100, seed, cursor)
            .unwrap()
            .next_batch()
            .inputs
    };
    assert_eq!(rows(1, 0), rows(1, 0));
    assert_ne!(rows(1, 0), rows(2, 0));
    assert_ne!(rows(1, 0), rows(1, 1));
    // A run resumed after an update of any dependency must see the same rows.
    let mut small = Batches::new(counting(8, 1), 8, 42, Cursor::default()).unwrap();
    assert_eq!(small.next_batch().inputs, GOLDEN);
}

const GOLDEN: [i32; 8] = [5, 6, 1, 4, 7, 8, 2, 3];

#[test]
fn what_cannot_be_batched_is_refused() {
    let empty = Arc::new(pack(&[vec![1, 2, 3]], 10, 8));
    assert!(empty.is_empty());
    let refused = Batches::new(empty.clone(), 1, 0, Cursor::default())
        .err()
        .unwrap();
    assert!(
        matches!(
            refused,
            Error::TooSmall {
                tokens: 4,
                seq_len: 8
            }
        ),
        "{refused}"
    );
    assert!(empty.in_order(1).is_err());
    let packed = counting(4, 2);
    assert!(Batches::new(packed.clone(), 0, 0, Cursor::default()).is_err());
    assert!(matches!(
        Batches::new(packed.clone(), 1, 0, Cursor { epoch: 0, row: 5 }),
        Err(Error::Cursor { rows: 4, .. })
    ));
    assert!(Packer::new(10, 0, 0).is_err());
    assert!(Packer::new(10, 10, 4).is_err());
    let sizes: Vec<usize> = packed
        .in_order(3)
        .unwrap()
        .map(|batch| batch.rows)
        .collect();
    assert_eq!(sizes, [3, 1]);
}

fn config(dir: &std::path::Path) -> DataConfig {
    let text = serde_json::json!({
        "source": dir, "tokenizer": "tokenizer.json", "seq_len": 32, "validation_fraction": 0.2,
    });
    serde_json::from_value(text).unwrap()
}

#[test]
fn loading_splits_by_text_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let paths = story_shards(dir.path());
    let tokenizer = tokenizer();
    let config = config(dir.path());
    let on = |threads| -> Dataset {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| load(&config, &tokenizer, &|_| ()).unwrap())
    };
    let (one, two) = (on(1), on(2));
    assert_eq!(one.train, two.train);
    assert_eq!(one.validation, two.validation);
    assert_eq!(one.train.fingerprint(), two.train.fingerprint());
    assert_ne!(one.train.fingerprint(), one.validation.fingerprint());

    let stats = one.stats;
    assert_eq!(
        (
            stats.documents,
            stats.train_documents + stats.validation_documents
        ),
        (300, 300)
    );
    assert_eq!(stats.tokens, stats.train_tokens + stats.validation_tokens);
    assert_eq!(one.train.tokens() as u64, stats.train_tokens);
    let texts: Vec<String> = documents(&paths).map(|d| d.unwrap().text).collect();
    let held: Vec<&String> = texts.iter().filter(|t| is_validation(t, 0.2)).collect();
    assert_eq!(stats.validation_documents, held.len());
    assert_eq!(
        stats.validation_bytes,
        held.iter().map(|t| t.len() as u64).sum::<u64>()
    );
    assert_eq!(
        stories::floor(&stories::generate(1, 300), 0.2).documents,
        held.len()
    );
}

#[test]
fn limits_and_small_splits() {
    let dir = tempfile::tempdir().unwrap();
    story_shards(dir.path());
    let tokenizer = tokenizer();
    let mut config = config(dir.path());
    config.max_documents = Some(50);
    config.max_validation_rows = Some(2);
    let data = load(&config, &tokenizer, &|p| {
        assert_eq!((p.done, p.total), (50, 50))
    })
    .unwrap();
    assert_eq!((data.stats.documents, data.validation.len()), (50, 2));

    text_shard(&dir.path().join("tiny.parquet"), &["tiny"]);
    config.source = dir.path().join("tiny.parquet").display().to_string();
    let tiny = load(&config, &tokenizer, &|_| ()).unwrap();
    assert!(Batches::new(tiny.train, 1, 0, Cursor::default()).is_err());

    config.seq_len = 0;
    assert!(matches!(
        load(&config, &tokenizer, &|_| ()),
        Err(Error::Config { .. })
    ));
    for fraction in [-0.1, 1.0, f64::NAN] {
        (config.seq_len, config.validation_fraction) = (8, fraction);
        assert!(load(&config, &tokenizer, &|_| ()).is_err(), "{fraction}");
    }
}

#[test]
fn unknown_keys_are_errors_and_defaults_are_the_documented_ones() {
    let text = r#"{"source": "s", "tokenizer": "t", "seq_len": 8}"#;
    let config: DataConfig = serde_json::from_str(text).unwrap();
    assert_eq!(
        (
            config.validation_fraction,
            config.seed,
            config.max_documents
        ),
        (0.01, 0, None)
    );
    assert!(serde_json::from_str::<DataConfig>(&text.replace("seq_len", "seqlen")).is_err());
}

#[test]
fn tokens_of_a_vocabulary_over_16_bits_survive() {
    let packed = pack(&[vec![65_535, 65_536, 151_935]], 151_936, 3);
    let mut seen: HashMap<i32, usize> = HashMap::new();
    packed
        .batch(0..1)
        .targets
        .iter()
        .for_each(|&id| *seen.entry(id).or_default() += 1);
    assert_eq!(packed.row(0), [65_535, 65_536, 151_935, 0]);
    assert_eq!(seen.len(), 3);
}
