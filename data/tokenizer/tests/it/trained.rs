//! Tokenizers: training, round trips, end of text, what `transformers` needs, bad files.

use proptest::prelude::*;
use retort_tokenizer::{Error, Tokenizer, train};

use crate::forms::texts;

fn tokenizer() -> Tokenizer {
    train(texts(200), 400).unwrap()
}

#[test]
fn training_gives_the_same_ids_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let out = dir.path().join(format!("{threads}"));
        pool.install(|| train(texts(400), 600).unwrap().save(&out).unwrap());
        std::fs::read_to_string(out.join("tokenizer.json")).unwrap()
    };
    let one = on(1);
    assert_eq!(one, on(2));
    assert_eq!(one, on(1));
}

#[test]
fn a_saved_tokenizer_is_the_same_and_names_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let trained = tokenizer();
    assert_eq!(
        (trained.eot(), trained.eot_token(), trained.vocab_size()),
        (0, "<|endoftext|>", 400)
    );
    trained.save(dir.path()).unwrap();
    let read = Tokenizer::from_file(dir.path(), None).unwrap();
    let text = "Lily had a red kite. She liked to fly it.";
    assert_eq!(read.encode(text).unwrap(), trained.encode(text).unwrap());
    assert_eq!((read.eot(), read.vocab_size()), (0, 400));
    let config = std::fs::read_to_string(dir.path().join("tokenizer_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
    assert_eq!(config["eos_token"], "<|endoftext|>");
    assert!(config["bos_token"].is_null());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "nothing is left beside them"
    );
}

#[test]
fn a_document_cannot_spell_the_end_of_text() {
    let tokenizer = tokenizer();
    let text = "before<|endoftext|>after";
    let ids = tokenizer.encode(text).unwrap();
    assert!(!ids.contains(&tokenizer.eot()), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    assert_eq!(tokenizer.decode(&[tokenizer.eot()]).unwrap(), "");
}

#[test]
fn bad_tokenizers_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokenizer.json");
    assert!(matches!(
        Tokenizer::from_file(&file, None),
        Err(Error::Io { .. })
    ));
    for garbage in [
        "",
        "{}",
        "[1, 2",
        r#"{"model": {"type": "BPE", "vocab": {}, "merges": 3}}"#,
    ] {
        std::fs::write(&file, garbage).unwrap();
        let message = Tokenizer::from_file(&file, None).unwrap_err().to_string();
        assert!(message.contains("tokenizer.json"), "{message}");
    }
    tokenizer().save(dir.path()).unwrap();
    let message = Tokenizer::from_file(&file, Some("<none>"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("<none>"), "{message}");
    std::fs::write(
        dir.path().join("tokenizer_config.json"),
        r#"{"eos_token": "a"}"#,
    )
    .unwrap();
    let named = Tokenizer::from_file(&file, None).unwrap();
    assert_eq!(named.eot_token(), "a", "the config's name comes first");
}

#[test]
fn training_needs_room_and_text() {
    let training = |texts: &[&str], vocab_size| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        train(texts.into_iter(), vocab_size)
    };
    let small = training(&["aa"], 256).unwrap_err();
    assert!(small.to_string().contains("257"), "{small}");
    let empty = training(&[], 300).unwrap_err();
    assert!(empty.to_string().contains("no text"), "{empty}");
    assert_eq!(training(&["aa"], 257).unwrap().vocab_size(), 257);
    let exhausted = training(&["aa"], 1000).unwrap();
    assert_eq!(exhausted.vocab_size(), 258, "only one pair to merge");
}

proptest! {
    #[test]
    fn any_unicode_comes_back(texts in prop::collection::vec("\\PC{0,40}|[\\s\\S]{0,20}", 1..8)) {
        use std::sync::LazyLock;
        static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(tokenizer);
        for text in &texts {
            let ids = TOKENIZER.encode(text).unwrap();
            prop_assert_eq!(&TOKENIZER.decode(&ids).unwrap(), text);
        }
    }
}
