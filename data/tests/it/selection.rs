//! Which documents are trained on: the validation split, filters, and recipes that name no text.

use std::collections::HashMap;
use std::path::Path;

use retort_data::{Data, DataConfig, Rank, documents, is_validation};
use serde_json::json;

use crate::fixture::Fixture;
use crate::support::{config, open, shards, text_shard};

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
        let stats = batches.stats();
        let left_out = (
            stats.too_short,
            stats.too_long,
            stats.not_ascii,
            stats.duplicates,
        );
        assert_eq!((left_out, stats.documents), ((1, 1, 1, 1), 3));
        assert!(stats.to_string().contains("1 duplicates"), "{stats}");
        // The second time the places come from the file.
        assert_eq!(std::fs::read_dir(beside.path()).unwrap().count(), 1);
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
