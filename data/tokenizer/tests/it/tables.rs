//! The encoder built from tables, as a GGUF file holds them, beside the `tokenizer.json` of the same
//! tables, and beside `tokenizers` with the split expressions as they are written.

use std::collections::HashMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use rand::RngExt;
use retort_tokenizer::{BpeOptions, ByteLevelBpe, SplitRule, Tokenizer};
use serde_json::{Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

use crate::forms::{open, rng, text, trained};

type Reference = tokenizers::TokenizerImpl<
    BPE,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// The vocabulary and the merges of a `tokenizer.json`.
struct Tables {
    vocabulary: HashMap<String, u32>,
    merges: Vec<(String, String)>,
}

impl Tables {
    fn of(json: &Value) -> Self {
        let vocabulary = json["model"]["vocab"].as_object().unwrap().iter();
        let text = |part: &Value| part.as_str().unwrap().to_owned();
        let merges = json["model"]["merges"].as_array().unwrap().iter();
        Self {
            vocabulary: vocabulary
                .map(|(token, id)| (token.clone(), id.as_u64().unwrap() as u32))
                .collect(),
            merges: merges
                .map(|pair| (text(&pair[0]), text(&pair[1])))
                .collect(),
        }
    }

    /// Without the tokens for which `lacks`, and what is merged from them.
    fn without(mut self, lacks: impl Fn(&str) -> bool) -> Self {
        self.vocabulary.retain(|token, _| !lacks(token));
        let known = |token: &str| self.vocabulary.contains_key(token);
        self.merges.retain(|(left, right)| {
            known(left) && known(right) && known(&format!("{left}{right}"))
        });
        self
    }

    fn encoder(&self, options: BpeOptions) -> ByteLevelBpe {
        let pairs = self.merges.iter().map(|(l, r)| (l.as_str(), r.as_str()));
        ByteLevelBpe::new(options, &self.vocabulary, pairs).unwrap()
    }

    fn reference(&self, options: BpeOptions) -> Reference {
        let vocabulary: tokenizers::models::bpe::Vocab =
            self.vocabulary.clone().into_iter().collect();
        let model = BPE::builder()
            .vocab_and_merges(vocabulary, self.merges.clone())
            .ignore_merges(options.ignore_merges)
            .build()
            .unwrap();
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for expression in options.split.expressions() {
            let pattern = SplitPattern::Regex((*expression).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            steps.push(split.unwrap().into());
        }
        steps.push(ByteLevel::new(false, false, false).into());
        let mut reference = Reference::new(model);
        reference.with_pre_tokenizer(Some(Sequence::new(steps)));
        let normalizer = options.nfc.then_some(NormalizerWrapper::NFC(NFC));
        reference.with_normalizer(normalizer).unwrap();
        reference
    }
}

fn options(split: SplitRule) -> BpeOptions {
    BpeOptions {
        split,
        nfc: split == SplitRule::Qwen2,
        ignore_merges: split == SplitRule::Llama3,
    }
}

/// One rule's three ways from text to ids.
struct Ways {
    rule: SplitRule,
    tables: ByteLevelBpe,
    json: Tokenizer,
    reference: Reference,
}

impl Ways {
    fn new(rule: SplitRule) -> Self {
        let mut json = trained(1200);
        let options = options(rule);
        json["pre_tokenizer"] = rule.to_json();
        json["model"]["ignore_merges"] = options.ignore_merges.into();
        if options.nfc {
            json["normalizer"] = json!({"type": "NFC"});
        }
        let tables = Tables::of(&json);
        let json = open(&json);
        assert_eq!(json.has_fast_encoder(), Ok(()), "{rule:?}");
        Self {
            rule,
            tables: tables.encoder(options),
            json,
            reference: tables.reference(options),
        }
    }

    fn check(&self, text: &str) {
        let mut found = Vec::new();
        self.tables.encode_into(text, &mut found).unwrap();
        let reference = self.reference.encode_fast(text, false).unwrap();
        assert_eq!(found, reference.get_ids(), "{:?}: {text:?}", self.rule);
        let json = self.json.encode(text).unwrap();
        assert_eq!(found, json, "{:?}: {text:?}", self.rule);
    }
}

static WAYS: LazyLock<Vec<Ways>> =
    LazyLock::new(|| SplitRule::ALL.into_iter().map(Ways::new).collect());

#[test]
fn tables_and_tokenizer_json_give_the_same_ids_on_generated_texts() {
    for seed in 0..600 {
        let mut rng = rng(seed);
        let parts = rng.random_range(0..80);
        let text = text(&mut rng, parts);
        WAYS.iter().for_each(|ways| ways.check(&text));
    }
    for number in [
        "1",
        "12",
        "123",
        "1234567",
        "x 12٣456½789",
        "$1,234.50",
        "²³¹1234",
    ] {
        WAYS.iter().for_each(|ways| ways.check(number));
    }
}

/// Characters of every row of Unicode beside a letter, numbers, a space and punctuation.
#[test]
fn tables_split_characters_as_the_expressions_do() {
    let all: Vec<char> = ('\0'..=char::MAX).collect();
    for characters in all.chunks(256) {
        // Fewer beyond the planes where scripts lie.
        let some = if characters[0] < '\u{13000}' { 64 } else { 3 };
        let part = |c: &char| format!("a{c}1{c}23 {c}.{c}");
        let text: String = characters.iter().take(some).map(part).collect();
        for ways in WAYS.iter() {
            ways.check(&text);
        }
    }
}

proptest! {
    #[test]
    fn tables_and_tokenizer_json_give_the_same_ids(
        text in "\\PC{0,60}|[\\s\\S]{0,40}|[ \\n\\r\\t'a-eA-E0-9.$+é٣½]{0,60}"
    ) {
        WAYS.iter().for_each(|ways| ways.check(&text));
    }
}

#[test]
fn bytes_that_a_vocabulary_lacks_are_left_out_of_the_text() {
    let lacking = Tables::of(&trained(1200)).without(|token| token.contains(['e', 'Ã', 'Ł']));
    for rule in SplitRule::ALL {
        let options = options(rule);
        let (encoder, reference) = (lacking.encoder(options), lacking.reference(options));
        for seed in 0..200 {
            let text = text(&mut rng(seed), 50);
            let mut found = Vec::new();
            encoder.encode_into(&text, &mut found).unwrap();
            let expected = reference.encode_fast(text.as_str(), false).unwrap();
            assert_eq!(found, expected.get_ids(), "{rule:?}: {text:?}");
        }
        let long = "the e ".repeat(100).replace(' ', "");
        for text in [long.as_str(), "e", "eee", &"e".repeat(200)] {
            let mut found = Vec::new();
            encoder.encode_into(text, &mut found).unwrap();
            let expected = reference.encode_fast(text, false).unwrap();
            assert_eq!(found, expected.get_ids(), "{rule:?}: {text:?}");
        }
    }
}

#[test]
fn tables_that_do_not_fit_together_are_refused() {
    let vocabulary = HashMap::from([("a".to_owned(), 0), ("b".to_owned(), 1)]);
    let options = options(SplitRule::Gpt2);
    let refused = |vocabulary: &HashMap<String, u32>| {
        let bpe = ByteLevelBpe::new(options, vocabulary, [("a", "b")].into_iter());
        bpe.err().unwrap()
    };
    assert!(refused(&vocabulary).contains("\"ab\""));
    let large = HashMap::from([("a".to_owned(), 0), ("b".to_owned(), u32::MAX)]);
    assert!(refused(&large).contains("31 bits"));
}
