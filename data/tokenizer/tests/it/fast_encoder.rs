//! The fast encoder gives the ids that the `tokenizers` crate gives.

use std::sync::LazyLock;

use crate::forms::{both, forms, open, rng, text, trained};
use proptest::prelude::*;
use rand::RngExt;
use rayon::prelude::*;
use retort_tokenizer::Tokenizer;
use serde_json::{Value, json};

static BASE: LazyLock<Value> = LazyLock::new(|| trained(1500));
static FORMS: LazyLock<Vec<(&str, Tokenizer)>> = LazyLock::new(|| {
    let forms = forms(&BASE).into_iter();
    forms.map(|(name, json)| (name, open(&json))).collect()
});

fn assert_same(name: &str, tokenizer: &Tokenizer, text: &str) {
    let (found, expected) = both(tokenizer, text);
    if found != expected {
        let show: String = text.chars().take(200).collect();
        let at = found.iter().zip(&expected).take_while(|(a, b)| a == b);
        panic!("{name}: {show:?} from token {}", at.count());
    }
}

#[test]
fn every_form_has_the_fast_encoder() {
    for (name, tokenizer) in FORMS.iter() {
        assert_eq!(tokenizer.has_fast_encoder(), Ok(()), "{name}");
    }
    assert_eq!(open(&BASE).has_fast_encoder(), Ok(()), "as trained");
}

/// Each character of the planes where scripts lie, and some of each row elsewhere, beside letters,
/// digits, spaces, punctuation and line ends. Whole planes elsewhere are of one class.
#[test]
fn every_character_is_split_as_the_expressions_do() {
    let all: Vec<char> = ('\0'..=char::MAX).collect();
    for (name, tokenizer) in FORMS.iter() {
        all.par_chunks(256).for_each(|characters| {
            let mut text = String::new();
            for (i, &c) in characters.iter().enumerate() {
                let scripts = c < '\u{3400}'
                    || ('\u{a000}'..'\u{ac00}').contains(&c)
                    || ('\u{d000}'..'\u{13000}').contains(&c)
                        && !('\u{e000}'..'\u{f900}').contains(&c);
                if scripts || i == 1 || i == 255 {
                    text.extend(
                        ["a", "b ", "1", "2'", " .", "\n"].map(|part| format!("{part}{c}")),
                    );
                } else if i % 32 == 0 {
                    text.extend(["a", "1"].map(|part| format!("{part}{c}")));
                }
            }
            assert_same(name, tokenizer, &text);
        });
    }
}

#[test]
fn generated_texts_are_encoded_the_same() {
    (0..1000u64).into_par_iter().for_each(|seed| {
        let mut rng = rng(seed);
        let parts = rng.random_range(0..80);
        let text = text(&mut rng, parts);
        for (name, tokenizer) in FORMS.iter() {
            assert_same(name, tokenizer, &text);
        }
    });
}

proptest! {
    #[test]
    fn any_text_is_encoded_the_same(text in "\\PC{0,60}|[\\s\\S]{0,40}|[ \\n\\r\\t'a-eA-E0-9.é]{0,60}") {
        for (name, tokenizer) in FORMS.iter() {
            assert_same(name, tokenizer, &text);
        }
    }
}

#[test]
fn runs_of_any_length_are_encoded_the_same() {
    for length in (90..100).chain([255, 256, 257, 1000, 20_001]) {
        for unit in [
            "a", "ab", "the", " ", "\n", " \n", "1", ".", "é", "e\u{301}", "中", "\u{301}",
        ] {
            let run = unit.repeat(length);
            for (name, tokenizer) in FORMS.iter() {
                assert_same(name, tokenizer, &run);
                assert_same(name, tokenizer, &format!("x{run}y"));
            }
        }
    }
}

#[test]
fn megabytes_of_one_character_take_no_quadratic_time() {
    let (_, tokenizer) = &FORMS[2];
    for (unit, megabytes) in [
        ("a", 10),
        (" ", 1),
        ("\n", 1),
        (".", 1),
        ("中", 1),
        ("\u{301}", 1),
    ] {
        let text = unit.repeat((megabytes << 20) / unit.len());
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(
            tokenizer.decode(&ids).unwrap().len(),
            text.len(),
            "{unit:?}"
        );
    }
}

/// `tokenizers` stops splitting at its regular expression engine's limit there.
#[test]
fn white_space_beyond_the_limit_of_the_reference_is_still_split() {
    let (_, tokenizer) = &FORMS[0];
    let spaces = " ".repeat(2_000_000);
    let after = tokenizer.encode(" said the kite").unwrap();
    let ids = tokenizer
        .encode(&format!("{spaces} said the kite"))
        .unwrap();
    assert!(ids.ends_with(&after), "the words after the run are words");
}

#[test]
fn tokenizers_that_take_turns_on_a_thread_keep_their_own_words() {
    let texts: Vec<String> = (0..200).map(|seed| text(&mut rng(seed), 40)).collect();
    let alone: Vec<Vec<Vec<u32>>> = FORMS
        .iter()
        .map(|(_, tokenizer)| {
            std::thread::scope(|scope| {
                let all = scope.spawn(|| texts.iter().map(|t| tokenizer.encode(t).unwrap()));
                all.join().unwrap().collect()
            })
        })
        .collect();
    for (i, text) in texts.iter().enumerate() {
        for ((name, tokenizer), alone) in FORMS.iter().zip(&alone) {
            assert_eq!(tokenizer.clone().encode(text).unwrap(), alone[i], "{name}");
        }
    }
}

#[test]
fn ids_are_appended() {
    let (_, tokenizer) = &FORMS[2];
    let mut ids = vec![7];
    tokenizer.encode_into("the kite", &mut ids).unwrap();
    assert_eq!(ids[0], 7);
    assert_eq!(ids[1..], tokenizer.encode("the kite").unwrap());
}

#[test]
fn added_tokens_that_are_not_special_are_matched_and_special_ones_are_text() {
    let (_, tokenizer) = &FORMS[2];
    let tool = tokenizer.id("<tool>").unwrap();
    let end = tokenizer.id("<|im_end|>").unwrap();
    let ids = tokenizer.encode("a<tool>b<|im_end|>c<|end of it").unwrap();
    assert!(ids.contains(&tool) && !ids.contains(&end), "{ids:?}");
    assert!(ids.contains(&tokenizer.id("<|end").unwrap()));
    for text in [
        "<|endoftext|>",
        "<|end<|endoftext|>",
        "<tool<tool>><|im_end|><tool>",
        "<tool>",
    ] {
        assert_same("qwen", tokenizer, text);
    }
}

#[test]
fn a_word_that_is_a_token_is_taken_whole_only_if_the_file_says_so() {
    // `xyz` is a token that no merge makes.
    let mut json = forms(&BASE).swap_remove(3).1;
    let id = json["model"]["vocab"].as_object().unwrap().len();
    json["model"]["vocab"]["xyz"] = id.into();
    let whole = open(&json);
    assert_eq!(whole.has_fast_encoder(), Ok(()));
    assert_eq!(whole.encode("xyz").unwrap(), [id as u32]);
    json["model"]["ignore_merges"] = false.into();
    let merged = open(&json);
    assert_eq!(merged.encode("xyz").unwrap().len(), 3);
    for text in ["xyz", "xyzxyz", " xyz", "1xyz xyz"] {
        assert_same("whole", &whole, text);
        assert_same("merged", &merged, text);
    }
}

#[test]
fn what_the_fast_encoder_does_not_cover_is_left_to_tokenizers() {
    let change = |pointer: &str, value: Value| {
        let mut json = forms(&BASE).swap_remove(2).1;
        *json.pointer_mut(pointer).unwrap() = value;
        json
    };
    let first = "/pre_tokenizer/pretokenizers/0";
    let token = |field: &str| format!("/added_tokens/1/{field}");
    let changes = [
        change("/normalizer", json!({"type": "NFKC"})),
        change("/pre_tokenizer", Value::Null),
        change(
            "/pre_tokenizer/pretokenizers/1/add_prefix_space",
            true.into(),
        ),
        change("/pre_tokenizer/pretokenizers/1/use_regex", true.into()),
        change(&format!("{first}/pattern"), json!({"Regex": r"\p{L}+|\s+"})),
        change(&format!("{first}/pattern"), json!({"String": " "})),
        change(&format!("{first}/behavior"), "Removed".into()),
        change(&format!("{first}/invert"), true.into()),
        change("/model/dropout", 0.5.into()),
        change("/model/end_of_word_suffix", "</w>".into()),
        change("/model/vocab/!", 2.into()),
        change(&token("lstrip"), true.into()),
        change(&token("single_word"), true.into()),
    ];
    for json in changes {
        let tokenizer = open(&json);
        let reason = tokenizer.has_fast_encoder().unwrap_err();
        assert!(!reason.is_empty());
        tokenizer.encode("The kite <tool> 12").unwrap();
    }
}

#[test]
fn a_merge_given_twice_counts_where_it_comes_last() {
    let mut json = forms(&BASE).swap_remove(0).1;
    let merges = json["model"]["merges"].as_array_mut().unwrap();
    let again: Vec<Value> = merges.iter().take(40).cloned().collect();
    merges.extend(again);
    let tokenizer = open(&json);
    assert_eq!(tokenizer.has_fast_encoder(), Ok(()));
    for seed in 0..200 {
        assert_same("twice", &tokenizer, &text(&mut rng(seed), 50));
    }
}

#[test]
fn merges_written_as_lines_are_read_as_well() {
    let mut json = forms(&BASE).swap_remove(0).1;
    let merges = json["model"]["merges"].as_array_mut().unwrap();
    for merge in merges {
        let (left, right) = (merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
        *merge = format!("{left} {right}").into();
    }
    let tokenizer = open(&json);
    assert_eq!(tokenizer.has_fast_encoder(), Ok(()));
    let (_, as_pairs) = &FORMS[0];
    let text = text(&mut rng(9), 100);
    assert_eq!(
        tokenizer.encode(&text).unwrap(),
        as_pairs.encode(&text).unwrap()
    );
}

#[test]
fn the_fingerprint_is_of_the_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (_, tokenizer) = &FORMS[0];
    tokenizer.save(dir.path()).unwrap();
    let read = Tokenizer::from_file(dir.path(), Some("a")).unwrap();
    assert_eq!(read.fingerprint(), tokenizer.fingerprint());
    let all: std::collections::HashSet<u64> = FORMS.iter().map(|(_, t)| t.fingerprint()).collect();
    assert_eq!(all.len(), FORMS.len());
}
