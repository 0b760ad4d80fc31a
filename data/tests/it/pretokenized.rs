//! Rows packed once to disk: the same rows, at random access, and nothing half-written.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::support::{config, open, story_shards, take, tokenizer};
use retort_data::{DataConfig, Error, Rank, pack, stories};
use retort_tokenizer::Tokenizer;
use serde_json::json;

fn settings(source: &Path, packing: &str) -> DataConfig {
    config(json!({
        "source": source, "seq_len": 40, "packing": packing, "validation_fraction": 0.1, "seed": 2,
        "shuffle_window": 50,
    }))
}

fn rows(
    config: &DataConfig,
    tokenizer: &Arc<Tokenizer>,
    n: usize,
) -> Vec<(Vec<i32>, Vec<i32>, Vec<i32>)> {
    let data = open(config, tokenizer).unwrap();
    let mut batches = data.batches(1, Rank::default(), None).unwrap();
    let row = |_| {
        let batch = batches.next_batch().unwrap();
        (batch.inputs, batch.targets, batch.documents)
    };
    (0..n).map(row).collect()
}

#[test]
fn a_packed_epoch_is_the_streamed_one_in_another_order() {
    let dir = tempfile::tempdir().unwrap();
    story_shards(&dir.path().join("text"));
    let tokenizer = Arc::new(tokenizer());
    for packing in ["concat", "best_fit"] {
        let streamed = settings(&dir.path().join("text"), packing);
        let out = dir.path().join(packing);
        let report = pack(&streamed, &tokenizer, &out, 64, &|_| ()).unwrap();
        assert!(report.rows > 100 && report.validation_rows > 5);
        let packed = DataConfig {
            source: out.display().to_string(),
            tokenizer: out.clone(),
            ..streamed.clone()
        };
        // The tokenizer lies beside the rows.
        let beside = Arc::new(Tokenizer::from_file(&packed.tokenizer, None).unwrap());
        let mut left: HashMap<_, i32> = HashMap::new();
        for row in rows(&streamed, &tokenizer, report.rows) {
            *left.entry(row).or_default() += 1;
        }
        let two = rows(&packed, &beside, 2 * report.rows);
        for epoch in two.chunks(report.rows) {
            let mut left = left.clone();
            for row in epoch {
                *left.get_mut(row).expect("a streamed row") -= 1;
            }
            assert!(left.values().all(|&n| n == 0));
        }
        assert_ne!(two[..report.rows], two[report.rows..]);
        let (a, b) = (
            open(&streamed, &tokenizer).unwrap(),
            open(&packed, &beside).unwrap(),
        );
        assert_eq!(a.validation(), b.validation());

        let (whole, _) = take(&b, 3, Rank::default(), &b.start(), 90);
        let (mut first, cursor) = take(&b, 3, Rank::default(), &b.start(), 41);
        first.extend(take(&b, 3, Rank::default(), &cursor, 49).0);
        assert_eq!(whole, first);
    }
}

#[test]
fn a_directory_that_is_in_the_way_or_of_other_settings_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    story_shards(&dir.path().join("text"));
    let tokenizer = Arc::new(tokenizer());
    let config = settings(&dir.path().join("text"), "concat");
    let out = dir.path().join("out");
    pack(&config, &tokenizer, &out, 64, &|_| ()).unwrap();
    let again = pack(&config, &tokenizer, &out, 64, &|_| ())
        .unwrap_err()
        .to_string();
    assert!(again.contains("already"), "{again}");
    let other = pack(&config, &tokenizer, &dir.path().join("text"), 64, &|_| ()).unwrap_err();
    assert!(matches!(other, Error::Pretokenized { .. }), "{other}");

    let packed = DataConfig {
        source: out.display().to_string(),
        ..config
    };
    let refused = |change: &dyn Fn(&mut DataConfig)| {
        let mut config = packed.clone();
        change(&mut config);
        open(&config, &tokenizer).err().unwrap().to_string()
    };
    assert!(refused(&|c| c.seq_len = 41).contains("seq_len"));
    assert!(refused(&|c| c.packing = retort_data::Packing::BestFit).contains("packing"));
    assert!(refused(&|c| c.filter.min_bytes = Some(1)).contains("filter"));
}

#[test]
fn an_interrupted_pack_goes_on_and_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    story_shards(&dir.path().join("text"));
    let tokenizer = Arc::new(tokenizer());
    let config = settings(&dir.path().join("text"), "concat");
    let (whole, stopped) = (dir.path().join("whole"), dir.path().join("stopped"));
    pack(&config, &tokenizer, &whole, 64, &|_| ()).unwrap();
    let stop = std::panic::catch_unwind(|| {
        pack(&config, &tokenizer, &stopped, 64, &|p| {
            assert!(p.what != "packing" || p.fraction < 0.5, "killed here");
        })
    });
    assert!(stop.is_err());
    assert!(
        open(
            &DataConfig {
                source: stopped.display().to_string(),
                ..config.clone()
            },
            &tokenizer
        )
        .is_err()
    );
    pack(&config, &tokenizer, &stopped, 64, &|_| ()).unwrap();
    for file in [
        "0/00000.arrow",
        "0/00002.arrow",
        "validation.arrow",
        "pack.json",
        "tokenizer.json",
    ] {
        let read = |dir: &Path| std::fs::read(dir.join(file)).unwrap();
        assert_eq!(read(&whole), read(&stopped), "{file}");
    }
}

/// A flipped byte or a cut gives rows or an error that names the file, never a panic.
#[test]
fn damaged_packed_files_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    stories::write_parquet(dir.path().join("text"), &stories::generate(1, 60), 1).unwrap();
    let tokenizer = Arc::new(tokenizer());
    let config = settings(&dir.path().join("text"), "best_fit");
    let out = dir.path().join("out");
    pack(&config, &tokenizer, &out, 64, &|_| ()).unwrap();
    let config = DataConfig {
        source: out.display().to_string(),
        ..config
    };
    let mut errors = 0;
    for name in ["0/00000.arrow", "pack.json"] {
        let path = out.join(name);
        let whole = std::fs::read(&path).unwrap();
        let mut step = 1;
        let mut at = 0;
        while at < whole.len() {
            for cut in [false, true] {
                let mut bytes = whole.clone();
                if cut {
                    bytes.truncate(at);
                } else {
                    bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
                }
                std::fs::write(&path, &bytes).unwrap();
                match open(&config, &tokenizer) {
                    Ok(data) => {
                        let mut batches = data.batches(4, Rank::default(), None).unwrap();
                        (0..8).for_each(|_| drop(batches.next_batch()));
                    }
                    Err(e) => {
                        errors += 1;
                        assert!(e.to_string().contains("out"), "{e}");
                    }
                }
            }
            // Every byte of the head and the tail, and some of the ids between.
            let inner = at > 1000 && at + 1500 < whole.len();
            step = if inner { step * 2 % 1021 + 1 } else { 1 };
            at += step;
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(errors > 500, "{errors}");
}

/// Packed rows and text in one mixture, the packed ones of two sources themselves.
#[test]
fn packed_rows_mix_with_text_and_resume() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = Arc::new(tokenizer());
    let text = |name: &str, seed: u64| {
        let path = dir.path().join(name);
        stories::write_parquet(&path, &stories::generate(seed, 60), 1).unwrap();
        path
    };
    let (a, b, c) = (text("a", 1), text("b", 2), text("c", 3));
    let mixed = |sources: [&Path; 2]| {
        let mut config = settings(&a, "concat");
        config.source = String::new();
        config.mixture = sources
            .map(|source| retort_data::Weighted {
                source: source.display().to_string(),
                weight: 1.0,
            })
            .to_vec();
        config
    };
    let out = dir.path().join("out");
    pack(&mixed([&a, &b]), &tokenizer, &out, 64, &|_| ()).unwrap();
    let config = mixed([&out, &c]);
    let data = open(&config, &tokenizer).unwrap();
    let (whole, end) = take(&data, 2, Rank::default(), &data.start(), 40);
    let (mut parts, cursor) = take(&data, 2, Rank::default(), &data.start(), 17);
    let again = retort_data::Data::open(&config, &tokenizer, None, Some(&cursor), &|_| ());
    let (more, at) = take(&again.unwrap(), 2, Rank::default(), &cursor, 23);
    parts.extend(more);
    assert_eq!((parts, at), (whole, end));
}
