//! Which tokenizers the fast encoder covers, decided on what `tokenizers` has parsed.
//!
//! Anything that is not known to be covered is left to `tokenizers`. What was recognised is tried
//! on a text against `tokenizers` before it is used.

use std::collections::{HashMap, HashSet};
use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{
    ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
};

use super::split::{GPT2, LLAMA3, QWEN2};
use super::{Added, Fast, Merges, Rule, next_owner};

/// Words of every kind the split rules know, text that NFC changes, and bytes of every length.
const PROBE: &str = "The cat's 12345 toys, WE'LL see...\r\n\n  don'T \t stop!\u{a0} \u{17f}'\u{17f} \
    e\u{301}a\u{308}\u{323} \u{1100}\u{1161}\u{11a8} \u{4e2d}\u{6587}\u{3002}\u{ff11}\u{bd} \
    \u{41f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{1f600}\u{200d}\u{1f600} <|endoftext|></s>\0 x\n ";

/// The fast encoder of `tokenizer`, whose model has `vocabulary`
/// (ids below 2³¹) and whose `tokenizer.json` is `json`; or why there is none.
pub(in crate::tokenizer) fn recognise(
    tokenizer: &Tokenizer,
    vocabulary: &HashMap<String, u32>,
    json: &[u8],
) -> Result<Fast, String> {
    let rule = rule(tokenizer.get_pre_tokenizer())?;
    let nfc = match tokenizer.get_normalizer() {
        None => false,
        Some(NormalizerWrapper::NFC(_)) => true,
        Some(_) => return Err("its normalizer is not NFC".into()),
    };
    match tokenizer.get_post_processor() {
        None
        | Some(
            PostProcessorWrapper::ByteLevel(_)
            | PostProcessorWrapper::Template(_)
            | PostProcessorWrapper::Sequence(_),
        ) => {}
        Some(_) => return Err("its post-processor is of another kind".into()),
    }
    let ModelWrapper::BPE(bpe) = tokenizer.get_model() else {
        return Err("its model is not BPE".into());
    };
    let some = |part: &Option<String>| part.as_ref().is_some_and(|part| !part.is_empty());
    if bpe.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err("its merges drop out".into());
    }
    if some(&bpe.continuing_subword_prefix) || some(&bpe.end_of_word_suffix) {
        return Err("its words have a prefix or a suffix".into());
    }
    let ids: HashSet<u32> = vocabulary.values().copied().collect();
    if ids.len() != vocabulary.len() {
        return Err("two of its tokens have the same id".into());
    }
    let merges = merges(vocabulary, json)?;
    let whole = bpe.ignore_merges.then(|| whole_words(vocabulary));
    let (as_given, normalized) = added(tokenizer, nfc)?;
    let fast = Fast {
        owner: next_owner().ok_or("too many tokenizers were opened")?,
        rule,
        nfc,
        merges,
        whole,
        as_given,
        normalized,
    };
    let expected = tokenizer
        .encode_fast(PROBE, false)
        .map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    fast.encode_into(PROBE, &mut found)?;
    if found != expected.get_ids() {
        return Err("it encodes a text for trial in another way".into());
    }
    Ok(fast)
}

/// The split rule that a pre-tokenizer spells out.
fn rule(pre_tokenizer: Option<&PreTokenizerWrapper>) -> Result<Rule, String> {
    use PreTokenizerWrapper::{ByteLevel, Digits, Sequence, Split};
    let steps = match pre_tokenizer {
        Some(Sequence(sequence)) => sequence.as_ref(),
        Some(step) => std::slice::from_ref(step),
        None => &[],
    };
    let rule = match steps {
        [ByteLevel(bytes)] if !bytes.add_prefix_space && bytes.use_regex => Some(Rule::Gpt2),
        [Digits(digits), ByteLevel(bytes)]
            if digits.individual_digits && !bytes.add_prefix_space && bytes.use_regex =>
        {
            Some(Rule::DigitsGpt2)
        }
        [Split(split), ByteLevel(bytes)]
            if split.behavior == SplitDelimiterBehavior::Isolated
                && !split.invert
                && !bytes.add_prefix_space
                && !bytes.use_regex =>
        {
            let SplitPattern::Regex(expression) = &split.pattern else {
                return Err("it splits at a string".into());
            };
            match expression.as_str() {
                GPT2 => Some(Rule::Gpt2),
                QWEN2 => Some(Rule::Qwen2),
                LLAMA3 => Some(Rule::Llama3),
                _ => None,
            }
        }
        _ => None,
    };
    rule.ok_or_else(|| "its pre-tokenizer is not one of the known ones".into())
}

/// The merges by id. `tokenizers` does not give them out, so they are read again from the file,
/// which it has found sound.
fn merges(vocabulary: &HashMap<String, u32>, json: &[u8]) -> Result<Merges, String> {
    let mut bytes = [0; 256];
    for (byte, character) in alphabet().into_iter().enumerate() {
        bytes[byte] = *vocabulary
            .get(character.encode_utf8(&mut [0; 4]) as &str)
            .ok_or_else(|| format!("its vocabulary lacks the byte {byte:#04x}"))?;
    }
    let file: File =
        serde_json::from_slice(json).map_err(|e| format!("its merges are laid out oddly: {e}"))?;
    let id = |token: &str| {
        vocabulary
            .get(token)
            .copied()
            .ok_or_else(|| format!("a merge names {token:?}, which is no token"))
    };
    let mut joined = String::new();
    let by_id = file
        .model
        .merges
        .iter()
        .map(|Pair(left, right)| {
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            Ok((id(left)?, id(right)?, id(&joined)?))
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok(Merges::new(bytes, &by_id))
}

#[derive(Deserialize)]
struct File {
    model: FileModel,
}

#[derive(Deserialize)]
struct FileModel {
    merges: Vec<Pair>,
}

/// A merge: `["a", "b"]`, or `"a b"` in older files.
struct Pair(String, String);

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Pair;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a pair of tokens")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Pair, E> {
                match text.split_once(' ') {
                    // The line that old files begin with is no merge, and is left to `tokenizers`.
                    Some((left, right)) if !right.contains(' ') && !text.starts_with("#version") => {
                        Ok(Pair(left.into(), right.into()))
                    }
                    _ => Err(E::custom("not two tokens")),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Pair, A::Error> {
                let missing = || serde::de::Error::custom("not two tokens");
                let left = pair.next_element()?.ok_or_else(missing)?;
                let right = pair.next_element()?.ok_or_else(missing)?;
                match pair.next_element::<IgnoredAny>()? {
                    None => Ok(Pair(left, right)),
                    Some(_) => Err(missing()),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Every token that is a string of bytes, by these bytes.
fn whole_words(vocabulary: &HashMap<String, u32>) -> HashMap<Box<[u8]>, u32> {
    let byte_of: HashMap<char, u8> = alphabet().into_iter().zip(0..=255).collect();
    vocabulary
        .iter()
        .filter_map(|(token, &id)| {
            let bytes = token.chars().map(|c| byte_of.get(&c).copied());
            Some((bytes.collect::<Option<Vec<u8>>>()?.into(), id))
        })
        .collect()
}

/// The character that stands for each byte in a byte-level vocabulary (GPT-2's `encoder.py`):
/// printable Latin-1 for itself, the other bytes, in order, U+0100 and up.
pub(in crate::tokenizer) fn alphabet() -> [char; 256] {
    let mut moved = '\u{100}'..;
    std::array::from_fn(|byte| match byte as u8 {
        own @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => char::from(own),
        _ => moved.next().unwrap_or_default(),
    })
}

/// The matchers of added tokens, in the text as given and in the normalized text.
fn added(tokenizer: &Tokenizer, nfc: bool) -> Result<(Option<Added>, Option<Added>), String> {
    let (mut as_given, mut normalized) = (Vec::new(), Vec::new());
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        let special = tokenizer
            .get_added_vocabulary()
            .is_special_token(&token.content);
        if !special && (token.lstrip || token.rstrip || token.single_word) {
            return Err(format!("{:?} takes white space or whole words", token.content));
        }
        if token.normalized && nfc && !token.content.is_ascii() {
            return Err(format!("{:?} is itself normalized", token.content));
        }
        let list = if token.normalized {
            &mut normalized
        } else {
            &mut as_given
        };
        list.push((token.content, (!special).then_some(id)));
    }
    Ok((matcher(as_given)?, matcher(normalized)?))
}

fn matcher(tokens: Vec<(String, Option<u32>)>) -> Result<Option<Added>, String> {
    if tokens.iter().all(|(_, id)| id.is_none()) {
        return Ok(None);
    }
    let (contents, ids): (Vec<String>, _) = tokens.into_iter().unzip();
    let matcher = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(&contents)
        .map_err(|e| e.to_string())?;
    Ok(Some(Added { matcher, ids }))
}
