//! Damaged tokenizer files: an error or a working tokenizer, never a panic and never without end.

use std::path::Path;

use crate::forms::{forms, rng, trained};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use retort_tokenizer::{Tokenizer, convert};
use serde_json::{Value, json};

/// For each of the four forms.
const MUTATIONS: u64 = 200;
const TEXT: &str = "The kite's 12 <tool> e\u{301}\u{a0}\n\n <|endoftext|>中文\0";

/// One change to the bytes of a file.
fn damage_bytes(file: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    // Half of the changes to the short part that says what to do, half to the vocabulary.
    let model = file
        .windows(7)
        .position(|window| window == b"\"model\"")
        .unwrap_or(file.len());
    let reach = if rng.random_bool(0.5) {
        model
    } else {
        file.len()
    };
    let at = rng.random_range(0..reach);
    match rng.random_range(0..5) {
        0 => file[at] ^= 1 << rng.random_range(0..8),
        1 => file[at] = rng.random(),
        2 => file.truncate(at),
        3 => {
            let end = (at + rng.random_range(1..30)).min(file.len());
            file.drain(at..end);
        }
        _ => {
            let end = (at + rng.random_range(1..60)).min(file.len());
            let again = file[at..end].to_vec();
            file.splice(at..at, again);
        }
    }
}

/// Puts something else in the place of one value.
fn damage_value(json: &mut Value, rng: &mut ChaCha8Rng) {
    let others = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(4_294_967_295u64),
        json!(2_147_483_647),
        json!(1e300),
        json!(""),
        json!("Ġ"),
        json!("\u{301}"),
        json!("("),
        json!(r"(?:\p{L}{1,1000}){1,1000}"),
        json!(r"\s*"),
        json!([]),
        json!({}),
        json!(["a", "b"]),
        json!({"type": "ByteLevel"}),
        json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "ab"}),
        json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}),
        json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"}),
        json!({"type": "Precompiled", "precompiled_charsmap": "/////wAAAAA="}),
        json!({"type": "TemplateProcessing", "single": "$A $A", "pair": "$A $B:1", "special_tokens": {}}),
    ];
    let mut value = json;
    loop {
        let depth = match value {
            Value::Object(map) if !map.is_empty() => map.len(),
            Value::Array(list) if !list.is_empty() => list.len(),
            _ => 0,
        };
        if depth == 0 || rng.random_bool(0.15) {
            *value = others[rng.random_range(0..others.len())].clone();
            return;
        }
        let at = rng.random_range(0..depth);
        value = match value {
            Value::Object(map) => map.values_mut().nth(at).unwrap(),
            Value::Array(list) => &mut list[at],
            _ => unreachable!("it has parts"),
        };
    }
}

fn try_it(path: &Path, file: &[u8]) -> bool {
    std::fs::write(path, file).unwrap();
    match Tokenizer::from_file(path, None) {
        Ok(tokenizer) => {
            let mut reference = Vec::new();
            let by_reference = tokenizer.encode_by_reference(TEXT, &mut reference);
            match tokenizer.encode(TEXT) {
                Ok(ids) => {
                    assert_eq!(ids, reference, "the two encoders differ");
                    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                    let _text_or_error = tokenizer.decode(&ids);
                }
                Err(error) => assert!(by_reference.is_err(), "{error}"),
            }
            true
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("tokenizer.json"), "{message}");
            false
        }
    }
}

#[test]
fn damaged_files_give_an_error_or_a_tokenizer() {
    // The library's own panics are caught; what they print would bury a failure.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| l.file().to_owned());
        if !place.is_some_and(|file| file.contains("tokenizers")) {
            eprintln!("{info}");
        }
    }));
    let forms = forms(&trained(280));
    let works: usize = forms
        .par_iter()
        .map(|(name, json)| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("tokenizer.json");
            let whole = json.to_string().into_bytes();
            assert!(try_it(&path, &whole), "{name}");
            let mut works = 0;
            for seed in 0..MUTATIONS {
                let mut rng = rng(seed);
                let file = if seed % 2 == 0 {
                    let mut file = whole.clone();
                    damage_bytes(&mut file, &mut rng);
                    file
                } else {
                    let mut json = json.clone();
                    damage_value(&mut json, &mut rng);
                    json.to_string().into_bytes()
                };
                works += usize::from(try_it(&path, &file));
            }
            works
        })
        .sum();
    let all = forms.len() * MUTATIONS as usize;
    assert!(
        works > all / 20 && works < all * 19 / 20,
        "{works} of {all} opened"
    );
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "qwen.tiktoken", "tokenizer.model"] {
        let path = dir.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_len((256 << 20) + 1).unwrap();
        let message = convert(&path).unwrap_err().to_string();
        assert!(
            message.contains(name) && message.contains("256 MiB"),
            "{message}"
        );
    }
}

#[test]
fn an_id_that_would_need_billions_of_rows_is_refused() {
    let mut json = forms(&trained(300)).swap_remove(0).1;
    json["model"]["vocab"]["huge"] = 4_294_967_295u64.into();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    std::fs::write(&path, json.to_string()).unwrap();
    let message = Tokenizer::from_file(&path, None).unwrap_err().to_string();
    assert!(message.contains("31 bits"), "{message}");
}

/// Its `tokenizers` panics while it builds the merge.
#[test]
fn a_merge_longer_than_every_token_is_an_error() {
    let mut json = forms(&trained(300)).swap_remove(0).1;
    let vocabulary = json["model"]["vocab"].as_object().unwrap();
    let longest = vocabulary
        .keys()
        .max_by_key(|token| token.len())
        .unwrap()
        .clone();
    json["model"]["merges"][0] = json!([longest, longest]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    std::fs::write(&path, json.to_string()).unwrap();
    let message = Tokenizer::from_file(&path, None).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
}
