//! Which tokenizers the fast encoder covers, decided on what `tokenizers` has parsed.
//!
//! Anything that is not known to be covered is left to `tokenizers`. What was recognised is tried
//! on a text against `tokenizers` before it is used.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{
    Model, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
};

use super::file::{File, Pair};
use super::split::{GPT2, LLAMA3, QWEN2};
use super::{Added, Fast, Merges, Rule, next_owner};

/// Words of every kind the split rules know, text that NFC changes, and bytes of every length.
const PROBE: &str = "The cat's 12345 toys, WE'LL see...\r\n\n  don'T \t stop!\u{a0} \u{17f}'\u{17f} \
    e\u{301}a\u{308}\u{323} \u{1100}\u{1161}\u{11a8} \u{4e2d}\u{6587}\u{3002}\u{ff11}\u{bd} \
    \u{41f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{1f600}\u{200d}\u{1f600} <|endoftext|></s>\0 x\n ";

/// The fast encoder of `tokenizer`, whose `tokenizer.json` is `json`, and the largest id of its
/// model; or why there is none.
pub(in crate::tokenizer) fn recognise(
    tokenizer: &Tokenizer,
    json: &[u8],
) -> Result<(Fast, u32), String> {
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
    // `tokenizers` does not give its merges out, so they are read again from the file, which it
    // has found sound.
    let File { model } =
        serde_json::from_slice(json).map_err(|e| format!("its model is laid out oddly: {e}"))?;
    let last_id = distinct(model.vocab.0, bpe.get_vocab_size())?;
    let merges = merges(bpe, &model.merges)?;
    let whole = bpe.ignore_merges.then(|| whole_words(&bpe.get_vocab()));
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
    Ok((fast, last_id))
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

/// The merges by id.
fn merges(bpe: &BPE, pairs: &[Pair]) -> Result<Merges, String> {
    let id = |token: &str| {
        bpe.token_to_id(token)
            .ok_or_else(|| format!("its vocabulary lacks {token:?}"))
    };
    let mut bytes = [0; 256];
    for (byte, character) in bytes.iter_mut().zip(alphabet()) {
        *byte = id(character.encode_utf8(&mut [0; 4]))?;
    }
    let mut joined = String::new();
    let by_id = pairs
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
