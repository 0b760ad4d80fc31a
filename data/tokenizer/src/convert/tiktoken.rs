//! Qwen v1's `qwen.tiktoken` to a `tokenizer.json`.
//!
//! The file has a line a token: its bytes in base64, and its rank, which is its id. Of two adjacent
//! tokens those merge first whose union has the lowest rank. Merges as `tokenizer.json` wants them
//! are recovered by encoding each token with the tokens of lower rank alone: the two that are left
//! are what it is merged from. What the file does not hold is as in Qwen's `tokenization_qwen.py`:
//! NFC, the split expression, and the special tokens after the last rank.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use crate::byte_alphabet::byte_alphabet;
use crate::error::{Error, Result};
use crate::split::SplitRule;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json;

/// Bytes of the longest token; Qwen's takes 128.
const LONGEST: usize = 256;
const END_OF_TEXT: &str = "<|endoftext|>";
/// `<|extra_0|>` to `<|extra_204|>`.
const EXTRA: usize = 205;
/// The prompt of Qwen-7B-Chat, which its publisher has in code (`make_context` of
/// `qwen_generation_utils.py`), as a template.
const CHATML: &str = "{% for message in messages %}\
    {% if loop.first and message['role'] != 'system' %}\
    {{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}\
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
/// Lists of ranks that are not Qwen's, by their length: their split expression and special tokens
/// are others.
const FOREIGN: [(usize, &str); 5] = [
    (50_256, "GPT-2's (r50k_base)"),
    (50_280, "p50k_base"),
    (100_256, "cl100k_base"),
    (128_000, "Llama 3's"),
    (199_998, "o200k_base"),
];

/// Whether the first line is base64 and a number.
pub(super) fn looks_like_it(bytes: &[u8]) -> bool {
    let line = bytes.iter().take(4 * LONGEST).take_while(|&&b| b != b'\n');
    let line: Vec<u8> = line.copied().collect();
    std::str::from_utf8(&line).is_ok_and(|line| parse(line).is_ok())
}

/// A list of base64 ranks with Qwen v1's special tokens, split expression and NFC.
///
/// The special tokens take the ids after the last rank: `<|endoftext|>`, which ends a document,
/// `<|im_start|>`, `<|im_end|>`, `<|extra_0|>` to `<|extra_204|>`.
///
/// # Errors
///
/// With the line, if a line is not base64 and a number, a rank or a token comes twice, a rank is
/// left out, or a token cannot be merged from tokens of lower rank.
pub(super) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    let fail = |reason: String| Error::invalid(path, reason);
    let tokens = tokens(bytes).map_err(fail)?;
    if let Some((_, name)) = FOREIGN.iter().find(|(length, _)| *length == tokens.len()) {
        return Err(fail(format!(
            "{} ranks are {name}, not Qwen's: its split expression is another; give a tokenizer.json",
            tokens.len()
        )));
    }
    let merges = merges(&tokens).map_err(fail)?;
    let alphabet = byte_alphabet();
    let text = |bytes: &[u8]| -> String {
        bytes
            .iter()
            .map(|&byte| alphabet[usize::from(byte)])
            .collect()
    };
    let vocab: Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (text(&token.bytes), id.into()))
        .collect();
    let merges: Vec<Value> = merges
        .iter()
        .map(|(left, right)| json!([text(left), text(right)]))
        .collect();
    let special = [END_OF_TEXT, "<|im_start|>", "<|im_end|>"].map(str::to_owned);
    let added: Vec<Value> = special
        .into_iter()
        .chain((0..EXTRA).map(|number| format!("<|extra_{number}|>")))
        .zip(tokens.len()..)
        .map(|(content, id)| tokenizer_json::added_token(id, &content, true))
        .collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    });
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SplitRule::Qwen2.expressions()[0]}, "behavior": "Isolated", "invert": false},
            byte_level,
        ]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    });
    let mut config = tokenizer_json::config(None, END_OF_TEXT, None);
    if chat_format(path)?.is_some_and(|format| format == "chatml") {
        config["chat_template"] = CHATML.into();
    }
    Tokenizer::from_values(path, &json, config, END_OF_TEXT)
}

/// The `chat_format` of the `generation_config.json` beside the list: `chatml` with Qwen-7B-Chat,
/// `raw` with Qwen-7B.
fn chat_format(path: &Path) -> Result<Option<String>> {
    let file = path.with_file_name("generation_config.json");
    if !file.is_file() {
        return Ok(None);
    }
    let config: Value = serde_json::from_slice(&tokenizer_json::read(&file)?)
        .map_err(|e| Error::invalid(&file, format!("not valid JSON: {e}")))?;
    Ok(config["chat_format"].as_str().map(str::to_owned))
}

/// A token and the line that it stands in, from 1.
struct RankedToken {
    bytes: Vec<u8>,
    line: usize,
}

fn parse(line: &str) -> std::result::Result<(Vec<u8>, usize), String> {
    let (token, rank) = line
        .trim_end_matches('\r')
        .split_once(' ')
        .ok_or("not a token in base64, a space and a rank")?;
    let bytes = BASE64_STANDARD
        .decode(token)
        .map_err(|e| format!("the token is not base64: {e}"))?;
    let rank = rank
        .parse()
        .map_err(|_| format!("the rank {rank:?} is not a number"))?;
    match bytes.len() {
        1..=LONGEST => Ok((bytes, rank)),
        length => Err(format!(
            "a token of {length} bytes; 1 to {LONGEST} are allowed"
        )),
    }
}

/// The tokens in the order of their ranks.
fn tokens(file: &[u8]) -> std::result::Result<Vec<RankedToken>, String> {
    let file = std::str::from_utf8(file).map_err(|e| {
        let line = file[..e.valid_up_to()].split(|&b| b == b'\n').count();
        format!("line {line}: not text")
    })?;
    let mut lines = Vec::new();
    for (line, text) in (1..).zip(file.lines()) {
        if text.is_empty() {
            continue;
        }
        let (bytes, rank) = parse(text).map_err(|reason| format!("line {line}: {reason}"))?;
        lines.push((rank, RankedToken { bytes, line }));
    }
    let count = lines.len();
    let mut tokens: Vec<Option<RankedToken>> = lines.iter().map(|_| None).collect();
    for (rank, token) in lines {
        let line = token.line;
        match tokens.get_mut(rank) {
            Some(place @ None) => *place = Some(token),
            Some(Some(first)) => {
                return Err(format!(
                    "line {line}: rank {rank} was given in line {} already",
                    first.line
                ));
            }
            None => {
                return Err(format!(
                    "line {line}: rank {rank}, but {count} tokens have ranks 0 to {}: one is left out",
                    count.saturating_sub(1)
                ));
            }
        }
    }
    // As many as places, none of them twice: none is missing.
    Ok(tokens.into_iter().flatten().collect())
}

/// Two tokens that make a third.
type MergedPair<'a> = (&'a [u8], &'a [u8]);

/// What each token of more than one byte is merged from, in the order of the ranks.
fn merges(tokens: &[RankedToken]) -> std::result::Result<Vec<MergedPair<'_>>, String> {
    let mut ranks: HashMap<&[u8], usize> = HashMap::with_capacity(tokens.len());
    for (rank, token) in tokens.iter().enumerate() {
        if let Some(first) = ranks.insert(&token.bytes, rank) {
            let line = token.line;
            let first = tokens[first].line;
            return Err(format!(
                "line {line}: the token of line {first} comes again"
            ));
        }
    }
    if let Some(byte) = (0..=255u8).find(|byte| !ranks.contains_key([*byte].as_slice())) {
        return Err(format!(
            "no token for the byte {byte:#04x}, so not every text can be encoded"
        ));
    }
    let mut found = Vec::with_capacity(tokens.len());
    for (rank, token) in tokens.iter().enumerate() {
        let bytes = token.bytes.as_slice();
        if bytes.len() == 1 {
            continue;
        }
        let split = last_split(bytes, |part| {
            ranks.get(part).copied().filter(|&part| part < rank)
        });
        let at = split.ok_or_else(|| {
            format!(
                "line {}: the token of rank {rank} cannot be merged from two of lower rank; the \
                 list is not of a byte-pair encoding, or damaged",
                token.line
            )
        })?;
        found.push(bytes.split_at(at));
    }
    Ok(found)
}

/// Where the last two parts of `token` meet when adjacent parts of the lowest rank are merged, the
/// leftmost first, until none is known; `None` unless two are left.
fn last_split(token: &[u8], rank: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    /// A part: where it starts, and the rank of its union with the next.
    type Part = (usize, Option<usize>);
    let mut parts: Vec<Part> = (0..token.len()).map(|start| (start, None)).collect();
    let union = |parts: &[Part], at: usize| {
        parts.get(at + 1)?;
        let end = parts.get(at + 2).map_or(token.len(), |part| part.0);
        rank(&token[parts[at].0..end])
    };
    for at in 0..parts.len() {
        parts[at].1 = union(&parts, at);
    }
    while parts.len() > 2 {
        let known = parts.iter().enumerate();
        let (_, at) = known.filter_map(|(at, part)| Some((part.1?, at))).min()?;
        parts.remove(at + 1);
        parts[at].1 = union(&parts, at);
        if at > 0 {
            parts[at - 1].1 = union(&parts, at - 1);
        }
    }
    parts.get(1).map(|part| part.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_split_where_lower_ranks_leave_two() {
        let ranks = ["a", "b", "c", "bc", "ab", "abc"];
        let rank = |part: &[u8]| ranks[..5].iter().position(|known| known.as_bytes() == part);
        assert_eq!(last_split(b"abc", rank), Some(1), "bc is merged before ab");
        assert_eq!(last_split(b"acac", rank), None);
        assert_eq!(last_split(b"ab", rank), Some(1));
    }
}
