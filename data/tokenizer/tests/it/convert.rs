//! Tokenizer files of other forms: the same ids, and errors that name the line.

use std::path::{Path, PathBuf};

use crate::forms::{forms, open, rng, text, trained};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use retort_tokenizer::{Tokenizer, convert};
use serde_json::Value;

/// The bytes of each token of a byte-level vocabulary, by id.
fn token_bytes(json: &Value) -> Vec<Vec<u8>> {
    let mut moved = '\u{100}'..;
    let alphabet: Vec<char> = (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => moved.next().unwrap(),
        })
        .collect();
    let byte = |c: char| alphabet.iter().position(|a| *a == c).unwrap() as u8;
    let vocabulary = json["model"]["vocab"].as_object().unwrap();
    let mut tokens: Vec<(u64, Vec<u8>)> = vocabulary
        .iter()
        .filter(|(token, _)| *token != "<|endoftext|>")
        .map(|(token, id)| (id.as_u64().unwrap(), token.chars().map(byte).collect()))
        .collect();
    tokens.sort();
    tokens.into_iter().map(|(_, bytes)| bytes).collect()
}

fn line(bytes: &[u8], rank: usize) -> String {
    format!("{} {rank}\n", BASE64_STANDARD.encode(bytes))
}

fn tiktoken(tokens: &[Vec<u8>]) -> String {
    let lines = tokens.iter().enumerate();
    lines.map(|(rank, bytes)| line(bytes, rank)).collect()
}

fn written(dir: &Path, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, contents).unwrap();
    path
}

#[test]
fn ranks_become_the_merges_that_they_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let base = trained(1200);
    let tokens = token_bytes(&base);
    let path = written(dir.path(), "qwen.tiktoken", tiktoken(&tokens));
    let converted = convert(&path).unwrap();
    assert_eq!(converted.has_fast_encoder(), Ok(()));
    let saved = converted.save(dir.path().join("out")).unwrap();
    let json: Value = serde_json::from_slice(&std::fs::read(&saved).unwrap()).unwrap();
    assert_eq!(json["model"]["merges"], base["model"]["merges"]);

    // The trained vocabulary has one more token, before the others.
    let mut qwen = forms(&base).swap_remove(2).1;
    qwen["added_tokens"].as_array_mut().unwrap().truncate(1);
    let qwen = open(&qwen);
    for seed in 0..200 {
        let text = text(&mut rng(seed), 60);
        let ids = converted.encode(&text).unwrap();
        let expected: Vec<u32> = qwen.encode(&text).unwrap();
        let expected: Vec<u32> = expected.iter().map(|id| id - 1).collect();
        assert_eq!(ids, expected);
    }
}

#[test]
fn a_directory_with_ranks_alone_is_a_tokenizers_directory() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = token_bytes(&trained(300));
    let path = written(dir.path(), "qwen.tiktoken", tiktoken(&tokens));
    // What Qwen publishes beside it names no token.
    written(
        dir.path(),
        "tokenizer_config.json",
        r#"{"tokenizer_class": "QWenTokenizer"}"#,
    );
    let base = Tokenizer::from_file(dir.path(), None).unwrap();
    assert_eq!(base.fingerprint(), convert(&path).unwrap().fingerprint());
    assert_eq!(base.eot_token(), "<|endoftext|>");
    assert!(base.config()["chat_template"].is_null());
    let other = Tokenizer::from_file(dir.path(), Some("<|im_end|>")).unwrap();
    assert_eq!(other.eot(), base.eot() + 2);
    written(
        dir.path(),
        "generation_config.json",
        r#"{"chat_format": "chatml"}"#,
    );
    let chat = Tokenizer::from_file(dir.path(), None).unwrap();
    assert!(chat.config()["chat_template"].is_string());
}

#[test]
fn special_tokens_follow_the_last_rank() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = token_bytes(&trained(300));
    let path = written(dir.path(), "qwen.tiktoken", tiktoken(&tokens));
    let converted = convert(&path).unwrap();
    let last = tokens.len() as u32;
    assert_eq!(
        (converted.eot(), converted.eot_token()),
        (last, "<|endoftext|>")
    );
    assert_eq!(converted.id("<|im_start|>"), Some(last + 1));
    assert_eq!(converted.id("<|im_end|>"), Some(last + 2));
    assert_eq!(converted.id("<|extra_0|>"), Some(last + 3));
    assert_eq!(converted.id("<|extra_204|>"), Some(last + 207));
    assert_eq!(converted.vocab_size(), tokens.len() + 208);
    // Saved and read again, also by the choice of `convert`, it is the same.
    let out = dir.path().join("out");
    converted.save(&out).unwrap();
    for again in [
        convert(&path),
        convert(&out),
        Tokenizer::from_file(&out, None),
    ] {
        assert_eq!(again.unwrap().fingerprint(), converted.fingerprint());
    }
}

#[test]
fn damaged_ranks_are_refused_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = token_bytes(&trained(300));
    let whole = tiktoken(&tokens);
    let at = |number: usize, new: &str| {
        let mut lines: Vec<&str> = whole.lines().collect();
        lines[number - 1] = new;
        lines.join("\n")
    };
    let long = line(&[b'a'; 300], 9);
    let unknown = line(b"\x01\x02\x03\x04", 280);
    let again = line(&tokens[3], 280);
    let cases = [
        (at(10, "!!!! 9"), "line 10: the token is not base64"),
        (at(10, "YQ=="), "line 10: not a token in base64"),
        (at(10, "YQ== nine"), "line 10: the rank \"nine\""),
        (at(10, "YQ== -9"), "line 10: the rank \"-9\""),
        (at(10, " 9"), "line 10: a token of 0 bytes"),
        (at(10, long.trim()), "line 10: a token of 300 bytes"),
        (
            at(281, "bm90IGhlcmU= 5"),
            "line 281: rank 5 was given in line 6",
        ),
        (
            at(281, "bm90IGhlcmU= 999999999999"),
            "line 281: rank 999999999999",
        ),
        (
            at(281, again.trim()),
            "line 281: the token of line 4 comes again",
        ),
        (
            at(281, unknown.trim()),
            "line 281: the token of rank 280 cannot be merged",
        ),
        (
            whole.lines().skip(1).collect::<Vec<_>>().join("\n"),
            "one is left out",
        ),
        (line(b"a", 0), "no token for the byte 0x00"),
        // Nothing says that an empty file is a list of ranks.
        (String::new(), "does not say how it was trained"),
    ];
    for (contents, expected) in cases {
        let path = written(dir.path(), "qwen.tiktoken", contents);
        let message = convert(&path).unwrap_err().to_string();
        assert!(message.contains("qwen.tiktoken: "), "{message}");
        assert!(message.contains(expected), "{message} for {expected}");
        assert!(!message.contains('\n'), "{message}");
    }
    let mut not_text = whole.into_bytes();
    not_text.extend_from_slice(b"\xff\xfe 299\n");
    let path = written(dir.path(), "qwen.tiktoken", not_text);
    let message = convert(&path).unwrap_err().to_string();
    assert!(message.contains("not text"), "{message}");
}

/// A list with the length of another model's is that model's, whatever it is called.
#[test]
fn ranks_of_other_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    tokens.extend((0..50_000u32).map(|n| vec![(n >> 8) as u8, n as u8]));
    let path = written(dir.path(), "gpt2.tiktoken", tiktoken(&tokens));
    let message = convert(&path).unwrap_err().to_string();
    assert!(message.contains("GPT-2"), "{message}");
}

/// A field of a protocol buffer: bytes, or a number.
#[derive(Clone, Copy)]
enum Field<'a> {
    Bytes(u32, &'a [u8]),
    Number(u32, u64),
    Score(f32),
}

fn message(fields: &[Field]) -> Vec<u8> {
    fn number(mut n: u64, into: &mut Vec<u8>) {
        while n >= 0x80 {
            into.push(n as u8 | 0x80);
            n >>= 7;
        }
        into.push(n as u8);
    }
    let mut out = Vec::new();
    for field in fields {
        match field {
            Field::Bytes(tag, bytes) => {
                number(u64::from(tag << 3 | 2), &mut out);
                number(bytes.len() as u64, &mut out);
                out.extend_from_slice(bytes);
            }
            Field::Number(tag, n) => {
                number(u64::from(tag << 3), &mut out);
                number(*n, &mut out);
            }
            Field::Score(score) => {
                out.push(2 << 3 | 5);
                out.extend_from_slice(&score.to_le_bytes());
            }
        }
    }
    out
}

const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const BYTE: u64 = 6;
const BPE: u64 = 2;

/// `<unk>`, `<s>`, `</s>`, the 256 bytes, then `pieces` from the best score on.
fn sentencepiece(pieces: &[&str], model_type: u64, normalizer: &[Field]) -> Vec<u8> {
    let pieces: Vec<(&str, u64)> = pieces.iter().map(|piece| (*piece, NORMAL)).collect();
    sentencepiece_of(&pieces, model_type, normalizer)
}

/// The same with the kind of each piece.
fn sentencepiece_of(pieces: &[(&str, u64)], model_type: u64, normalizer: &[Field]) -> Vec<u8> {
    let bytes: Vec<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    let special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
    let all = special
        .into_iter()
        .chain(bytes.iter().map(|byte| (byte.as_str(), BYTE)))
        .map(|(piece, kind)| (piece, kind, 0.0))
        .chain(
            (0..)
                .zip(pieces)
                .map(|(n, (piece, kind))| (*piece, *kind, -(n as f32))),
        );
    let mut model = Vec::new();
    for (piece, kind, score) in all {
        let piece = [
            Field::Bytes(1, piece.as_bytes()),
            Field::Score(score),
            Field::Number(3, kind),
        ];
        model.extend(message(&[Field::Bytes(1, &message(&piece))]));
    }
    // model_type, byte_fallback
    let trainer = message(&[Field::Number(3, model_type), Field::Number(35, 1)]);
    model.extend(message(&[
        Field::Bytes(2, &trainer),
        Field::Bytes(3, &message(normalizer)),
    ]));
    model
}

/// add_dummy_prefix, no remove_extra_whitespaces.
const LLAMA: [Field; 2] = [Field::Number(3, 1), Field::Number(4, 0)];
const PIECES: [&str; 16] = [
    "▁t", "he", "▁the", "▁k", "in", "▁kin", "s>", "</", "▁", "t", "h", "e", "k", "i", "n", "s",
];

#[test]
fn sentencepiece_merges_by_score_and_spells_the_rest_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(
        dir.path(),
        "tokenizer.model",
        sentencepiece(&PIECES, BPE, &LLAMA),
    );
    let converted = convert(&path).unwrap();
    let piece = |id: u32| converted.token(id).unwrap();
    let pieces = |text: &str| -> Vec<String> {
        converted
            .encode(text)
            .unwrap()
            .into_iter()
            .map(piece)
            .collect()
    };
    assert_eq!(pieces("the kin"), ["▁the", "▁kin"]);
    assert_eq!(pieces("then"), ["▁the", "n"]);
    assert_eq!(pieces(" the"), ["▁", "▁the"]);
    assert_eq!(pieces("hé\n"), ["▁", "h", "<0xC3>", "<0xA9>", "<0x0A>"]);
    assert_eq!(pieces(""), Vec::<String>::new());
    // Control pieces and bytes are never merged from text.
    assert!(
        !converted
            .encode("</s> <s> <0x0A>")
            .unwrap()
            .iter()
            .any(|&id| id < 3)
    );
    assert_eq!(pieces("<0x0A>").len(), 7, "▁ and six bytes or pieces");
    for text in ["the kin", " the  kin ", "hé\n", "the</s>kin"] {
        let ids = converted.encode(text).unwrap();
        assert_eq!(converted.decode(&ids).unwrap(), text);
    }
    assert_eq!((converted.eot(), converted.eot_token()), (2, "</s>"));
    assert_eq!(converted.vocab_size(), 259 + PIECES.len());
    converted.save(dir.path().join("out")).unwrap();
    let again = convert(dir.path().join("out")).unwrap();
    assert_eq!(again.fingerprint(), converted.fingerprint());
    assert_eq!(again.eot(), 2);
    assert_eq!(
        convert(&path).unwrap().fingerprint(),
        converted.fingerprint()
    );
}

/// Gemma has pieces of spaces. SentencePiece looks for a user-defined piece where a space is `▁`
/// already, takes the longest, and merges it with nothing.
#[test]
fn sentencepiece_user_defined_pieces_of_spaces_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let user_defined = ["▁▁", "▁▁▁▁", "<tool>", "▁in", "\t"].map(|p| (p, USER_DEFINED));
    let normal = ["in", "▁k", "▁▁k", "▁", "k", "i", "n", "<"].map(|p| (p, NORMAL));
    let pieces = [&user_defined[..], &normal].concat();
    // No remove_extra_whitespaces, no add_dummy_prefix.
    let normalizer = [Field::Number(3, 0), Field::Number(4, 0)];
    let model = sentencepiece_of(&pieces, BPE, &normalizer);
    let path = written(dir.path(), "tokenizer.model", model);
    let converted = convert(&path).unwrap();
    let saved = dir.path().join("out");
    converted.save(&saved).unwrap();
    for tokenizer in [converted, Tokenizer::from_file(&saved, None).unwrap()] {
        for (text, expected) in [
            ("   ", &["▁▁", "▁"][..]),
            ("      ", &["▁▁▁▁", "▁▁"]),
            ("k  k", &["k", "▁▁", "k"]),
            ("   k", &["▁▁", "▁k"]),
            (" k", &["▁k"]),
            ("▁▁", &["▁▁"]),
            ("  <tool>k", &["▁▁", "<tool>", "k"]),
            ("k in", &["k", "▁in"]),
            ("\t \t", &["\t", "▁", "\t"]),
            // Not the control piece.
            ("<s>", &["<", "<0x73>", "<0x3E>"]),
        ] {
            let ids = tokenizer.encode(text).unwrap();
            let pieces: Vec<String> = ids.iter().map(|&id| tokenizer.token(id).unwrap()).collect();
            assert_eq!(pieces, expected, "{text:?}");
            let spaces = text.replace('▁', " ");
            assert_eq!(tokenizer.decode(&ids).unwrap(), spaces, "{text:?}");
        }
    }
}

#[test]
fn text_that_continues_a_prompt_keeps_its_first_space() {
    let dir = tempfile::tempdir().unwrap();
    let model = sentencepiece(&PIECES, BPE, &LLAMA);
    let path = written(dir.path(), "tokenizer.model", model);
    let tokenizer = convert(&path).unwrap();
    let begin = tokenizer.id("<s>").unwrap();
    let ids = tokenizer.encode("the kin hé").unwrap();
    let text = tokenizer.decode(&ids).unwrap();
    for n in 0..=ids.len() {
        let prompt = [&[begin], &ids[..n]].concat();
        let before = tokenizer.decode(&prompt).unwrap();
        let more = tokenizer.decode_continuation(&prompt, &ids[n..]).unwrap();
        // The prompt may end within the two bytes of é.
        let before = before.trim_end_matches('\u{fffd}');
        assert_eq!(format!("{before}{more}"), text, "{n}");
    }
    assert_eq!(
        tokenizer
            .decode_continuation(&ids[..1], &ids[1..2])
            .unwrap(),
        " kin"
    );
}

#[test]
fn other_sentencepiece_models_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let with =
        |pieces: &[&str], kind: u64, normalizer: &[Field]| sentencepiece(pieces, kind, normalizer);
    let long = "a".repeat(600);
    let cases = [
        (with(&PIECES, 1, &LLAMA), "Unigram"),
        (with(&PIECES, 3, &LLAMA), "Word"),
        (with(&PIECES, 4, &LLAMA), "Char"),
        (with(&PIECES, BPE, &[]), "remove_extra_whitespaces"),
        (
            with(&PIECES, BPE, &[LLAMA[1], Field::Bytes(2, b"table")]),
            "normalization table",
        ),
        (
            with(&["a", "b", "a"], BPE, &LLAMA),
            "pieces 259 and 261 are both \"a\"",
        ),
        (with(&["a", ""], BPE, &LLAMA), "piece 260 has 0 bytes"),
        (with(&[&long], BPE, &LLAMA), "piece 259 has 600 bytes"),
        (b"\xff\xff\xff\xff".to_vec(), "not a SentencePiece model"),
        (Vec::new(), "does not say how it was trained"),
    ];
    for (contents, expected) in cases {
        let path = written(dir.path(), "tokenizer.model", contents);
        let message = convert(&path).unwrap_err().to_string();
        assert!(message.contains("tokenizer.model: "), "{message}");
        assert!(message.contains(expected), "{message} for {expected}");
    }
}

#[test]
fn damaged_sentencepiece_models_give_an_error_or_a_tokenizer() {
    use rand::RngExt;
    let dir = tempfile::tempdir().unwrap();
    let whole = sentencepiece(&PIECES, BPE, &LLAMA);
    let ranks = tiktoken(&token_bytes(&trained(300))).into_bytes();
    for seed in 0..600 {
        let mut rng = rng(seed);
        let mut file = if seed % 2 == 0 {
            whole.clone()
        } else {
            ranks.clone()
        };
        let at = rng.random_range(0..file.len());
        match rng.random_range(0..3) {
            0 => file.truncate(at),
            1 => file[at] = rng.random(),
            _ => file[at] ^= 1 << rng.random_range(0..8),
        }
        let path = written(dir.path(), "tokenizer.model", file);
        match convert(&path) {
            Ok(tokenizer) => assert!(!tokenizer.encode("the kin").unwrap().is_empty()),
            Err(error) => assert!(error.to_string().contains("tokenizer.model"), "{error}"),
        }
    }
}

#[test]
fn a_directory_without_a_tokenizer_says_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let message = convert(dir.path()).unwrap_err().to_string();
    assert!(message.contains("qwen.tiktoken"), "{message}");
}
