//! Cursors: those of earlier versions go on bit for bit, those of other data are refused.

use std::path::Path;
use std::sync::Arc;

use retort_data::{Cursor, Data, DataConfig, Rank};
use retort_tokenizer::{Tokenizer, byte_alphabet};
use serde_json::{Map, json};

use crate::fixture::Fixture;
use crate::support::{config, open, shards, story_shards};

/// The 256 bytes and an end of text, without merges, so that the fingerprint depends on no library.
fn byte_tokenizer(dir: &Path) -> Tokenizer {
    let mut vocab = Map::new();
    for (id, character) in byte_alphabet().iter().enumerate() {
        vocab.insert(character.to_string(), id.into());
    }
    vocab.insert("</s>".into(), 256.into());
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                       "use_regex": true});
    let json = json!({
        "version": "1.0", "added_tokens": [], "pre_tokenizer": bytes, "decoder": bytes,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    let file = dir.join("tokenizer.json");
    std::fs::write(&file, json.to_string()).unwrap();
    Tokenizer::from_file(&file, None).unwrap()
}

fn source(dir: &Path) {
    for shard in 0..3 {
        let line = |i: usize| {
            let text = format!("Document {i} of shard {shard}. ").repeat(1 + i % 7);
            json!({ "text": text }).to_string() + "\n"
        };
        let lines: String = (0..40).map(line).collect();
        std::fs::write(dir.join(format!("{shard}.jsonl")), lines).unwrap();
    }
}

/// The cursor after 40 batches of two rows, as it lies in checkpoints.
const RECORDED: &str = r#"{"version":1,"identity":{"sources":["3040181ccb3f6c868bf764a73cff3afe5ea0d0d022bb53d53e03eaf7204079a1"],"pinned":[null],"tokenizer":"9825a05020ab3843","settings":"23eae06383c19875"},"sources":[{"epoch":0,"shard":0,"segment":0,"row":16,"skip":1162,"rows":80,"counts":{"documents":16,"validation":0,"too_short":0,"too_long":0,"not_ascii":0,"duplicates":0,"damaged":0,"tokens":1398,"cropped":0,"padded":0}}]}"#;

#[test]
fn a_recorded_cursor_resumes_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    source(dir.path());
    let tokenizer = Arc::new(byte_tokenizer(dir.path()));
    let config = config(json!({
        "source": dir.path().join("*.jsonl"), "packing": "concat", "shuffle_window": 16,
        "seed": 7,
    }));
    let cursor: Cursor = serde_json::from_str(RECORDED).unwrap();
    // It is written as it was read, so that earlier versions can go on from it too.
    assert_eq!(serde_json::to_string(&cursor).unwrap(), RECORDED);
    let data = Data::open(&config, &tokenizer, None, Some(&cursor), &|_| ()).unwrap();
    let mut whole = data.batches(2, Rank::default(), None).unwrap();
    for _ in 0..40 {
        whole.next_batch().unwrap();
    }
    assert_eq!(whole.cursor(), cursor);
    let mut resumed = data.batches(2, Rank::default(), Some(&cursor)).unwrap();
    for _ in 0..20 {
        assert_eq!(resumed.next_batch().unwrap(), whole.next_batch().unwrap());
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
