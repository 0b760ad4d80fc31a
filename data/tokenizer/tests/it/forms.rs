//! Small tokenizers in every form that the fast encoder covers.

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retort_tokenizer::{SplitRule, Tokenizer, train};
use serde_json::{Value, json};

/// What texts are put together from: words of several scripts, numbers, punctuation, every kind of
/// white space, contractions, what NFC changes, and tokens spelled out.
pub const PARTS: [&str; 60] = [
    "the",
    " the",
    " kite",
    "she",
    " said",
    "ing",
    "er",
    " don't",
    "'ll",
    "'S",
    "'\u{17f}",
    "'RE",
    "'ve",
    "'d",
    "I'm",
    "12",
    " 345",
    "7",
    "\u{663}\u{664}",
    "\u{bd}",
    "\u{2167}",
    ".",
    ", ",
    "...",
    "!?",
    "\"",
    "--",
    " (",
    ")\n",
    ";\r\n",
    " ",
    "  ",
    "    ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "\u{a0}",
    "\u{3000}",
    "\u{2028}",
    "\u{85}",
    "Привет",
    " мир",
    "中文",
    "。",
    "日本語の",
    "ลำ",
    "ทำ",
    "한국",
    "\u{1112}\u{1161}\u{11ab}",
    "e\u{301}",
    "a\u{323}\u{307}",
    "\u{212b}",
    "é",
    " naïve",
    "😀",
    "👩\u{200d}💻",
    "<|endoftext|>",
    "<tool>",
    "\0",
];

/// `parts` of [`PARTS`], now and then a character from anywhere.
pub fn text(rng: &mut ChaCha8Rng, parts: usize) -> String {
    let mut text = String::new();
    for _ in 0..parts {
        if rng.random_bool(0.05) {
            text.push(rng.random::<char>());
        } else {
            text.push_str(PARTS.choose(rng).unwrap());
        }
    }
    text
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Documents of generated text.
pub fn texts(documents: usize) -> impl Iterator<Item = String> + Send {
    let mut rng = rng(1);
    (0..documents).map(move |_| text(&mut rng, 60))
}

/// A `tokenizer.json` of `vocabulary` tokens trained on generated text, in `ByteLevel` form.
pub fn trained(vocabulary: usize) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let file = train(texts(400), vocabulary)
        .unwrap()
        .save(dir.path())
        .unwrap();
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// `base` with each of the published pre-tokenizers; Qwen's with NFC and added tokens, Llama 3's
/// taking whole words first.
pub fn forms(base: &Value) -> Vec<(&'static str, Value)> {
    let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let split = |rule: SplitRule| {
        let pattern = json!({"Regex": rule.expressions()[0]});
        json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false})
    };
    let sequence = |steps: [Value; 2]| json!({"type": "Sequence", "pretokenizers": steps});
    let with = |pre_tokenizer: Value| {
        let mut form = base.clone();
        form["pre_tokenizer"] = pre_tokenizer;
        form
    };
    let digits = json!({"type": "Digits", "individual_digits": true});
    let mut qwen = with(sequence([split(SplitRule::Qwen2), bytes(false)]));
    qwen["normalizer"] = json!({"type": "NFC"});
    let next = base["model"]["vocab"].as_object().unwrap().len();
    let added = qwen["added_tokens"].as_array_mut().unwrap();
    for (content, special) in [("<tool>", false), ("<|end", false), ("<|im_end|>", true)] {
        added.push(json!({
            "id": next + added.len(), "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": special,
        }));
    }
    let mut llama = with(sequence([split(SplitRule::Llama3), bytes(false)]));
    llama["model"]["ignore_merges"] = true.into();
    vec![
        ("gpt2", with(bytes(true))),
        ("smollm", with(sequence([digits, bytes(true)]))),
        ("qwen", qwen),
        ("llama3", llama),
    ]
}

/// The tokenizer of a `tokenizer.json`.
pub fn open(json: &Value) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokenizer.json");
    std::fs::write(&file, json.to_string()).unwrap();
    Tokenizer::from_file(&file, None).unwrap()
}

/// Both encoders' ids: in use, reference.
pub fn both(tokenizer: &Tokenizer, text: &str) -> (Vec<u32>, Vec<u32>) {
    let mut reference = Vec::new();
    tokenizer.encode_by_reference(text, &mut reference).unwrap();
    (tokenizer.encode(text).unwrap(), reference)
}
