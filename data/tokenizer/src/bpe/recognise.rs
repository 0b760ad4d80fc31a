//! Which tokenizers the fast encoder covers, decided on what `tokenizers` has parsed.
//!
//! Anything that is not known to be covered is left to `tokenizers`. What was recognised is tried
//! on a text against `tokenizers` before it is used.

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;
use tokenizers::{Model, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, Tokenizer};

use super::encoder::{Added, BpeOptions, ByteLevelBpe};
use super::merges_json::{MergePair, TokenizerFile};
use crate::byte_alphabet::byte_alphabet;
use crate::split::SplitRule;

/// Words of every kind the split rules know, text that NFC changes, and bytes of every length.
const PROBE: &str = "The cat's 12345 toys, WE'LL see...\r\n\n  don'T \t stop!\u{a0} \u{17f}'\u{17f} \
    e\u{301}a\u{308}\u{323} \u{1100}\u{1161}\u{11a8} \u{4e2d}\u{6587}\u{3002}\u{ff11}\u{bd} \
    \u{41f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{1f600}\u{200d}\u{1f600} <|endoftext|></s>\0 x\n ";

/// The fast encoder of `tokenizer`, whose `tokenizer.json` is `json`, and the largest id of its
/// model; or why there is none.
pub(crate) fn recognise(tokenizer: &Tokenizer, json: &[u8]) -> Result<(ByteLevelBpe, u32), String> {
    let pre_tokenizer = tokenizer.get_pre_tokenizer();
    let pre_tokenizer = serde_json::to_value(pre_tokenizer).unwrap_or(Value::Null);
    let split = SplitRule::from_json(&pre_tokenizer)
        .map_err(|reason| format!("its pre-tokenizer is not a known one: {reason}"))?;
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
    // `tokenizers` does not give its merges out, so they are read again from the file, which it
    // has found sound.
    let TokenizerFile { model } =
        serde_json::from_slice(json).map_err(|e| format!("its model is laid out oddly: {e}"))?;
    let last_id = distinct(model.vocab.0, bpe.get_vocab_size())?;
    let vocabulary = bpe.get_vocab();
    let spelled = |byte: &char| vocabulary.contains_key(byte.encode_utf8(&mut [0; 4]) as &str);
    if let Some(byte) = byte_alphabet().iter().find(|byte| !spelled(byte)) {
        return Err(format!("its vocabulary lacks {byte:?}"));
    }
    let options = BpeOptions {
        split,
        nfc,
        ignore_merges: bpe.ignore_merges,
    };
    let pairs = model.merges.iter();
    let pairs = pairs.map(|MergePair(left, right)| (left.as_ref(), right.as_ref()));
    let mut fast = ByteLevelBpe::new(options, &vocabulary, pairs)?;
    (fast.as_given, fast.normalized) = added(tokenizer, nfc)?;
    let expected = tokenizer
        .encode_fast(PROBE, false)
        .map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    fast.encode_into(PROBE, &mut found)?;
    if found != expected.get_ids() {
        return Err("it encodes a text for trial in another way".into());
    }
    Ok((fast, last_id))
}

/// The largest of the ids, if they are as many as the tokens, below 2³¹, and no two the same.
fn distinct(mut ids: Vec<u32>, tokens: usize) -> Result<u32, String> {
    ids.sort_unstable();
    if ids.len() != tokens || ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("a token or an id comes twice".into());
    }
    let last = ids.last().copied().ok_or("its vocabulary is empty")?;
    i32::try_from(last)
        .map(|_| last)
        .map_err(|_| "an id does not fit 31 bits".into())
}

/// The matchers of added tokens, in the text as given and in the normalized text.
fn added(tokenizer: &Tokenizer, nfc: bool) -> Result<(Option<Added>, Option<Added>), String> {
    let (mut as_given, mut normalized) = (Vec::new(), Vec::new());
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        let special = tokenizer
            .get_added_vocabulary()
            .is_special_token(&token.content);
        if !special && (token.lstrip || token.rstrip || token.single_word) {
            return Err(format!(
                "{:?} takes white space or whole words",
                token.content
            ));
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
