//! How many bytes of text each token stands for, so that losses of models with different
//! vocabularies can be compared.
//!
//! A token of a byte-level vocabulary stands for a byte a character; in a SentencePiece
//! vocabulary `▁` is a space and `<0x0A>` a byte. Special tokens stand for no text.

use tokenizers::DecoderWrapper;

use crate::byte_alphabet::byte_alphabet;
use crate::tokenizer::Tokenizer;

impl Tokenizer {
    /// The bytes of text that each id stands for, for all ids below
    /// [`vocab_size`](Self::vocab_size); 0 for special tokens and for ids without a token.
    ///
    /// The sum over a document's ids is the length of its text in UTF-8, except where the
    /// tokenizer normalizes the text or puts a space before it: then it is that of the text
    /// as tokenized.
    pub fn byte_lengths(&self) -> Vec<u32> {
        let parts = self.inner.get_decoder().map(parts).unwrap_or_default();
        let has = |f: fn(&DecoderWrapper) -> bool| parts.iter().any(|&part| f(part));
        let byte_level = has(|d| matches!(d, DecoderWrapper::ByteLevel(_)));
        let fallback = has(|d| matches!(d, DecoderWrapper::ByteFallback(_)));
        let mut alphabet = byte_alphabet();
        alphabet.sort_unstable();
        let added = self.inner.get_added_tokens_decoder();
        (0..self.vocab_size() as u32)
            .map(|id| {
                if let Some(added) = added.get(&id) {
                    return if added.special {
                        0
                    } else {
                        added.content.len() as u32
                    };
                }
                if id == self.eot() {
                    return 0;
                }
                let Some(token) = self.inner.id_to_token(id) else {
                    return 0;
                };
                if byte_level && token.chars().all(|c| alphabet.binary_search(&c).is_ok()) {
                    token.chars().count() as u32
                } else if fallback && is_byte(&token) {
                    1
                } else if byte_level {
                    token.len() as u32
                } else {
                    token
                        .chars()
                        .map(|c| if c == '▁' { 1 } else { c.len_utf8() as u32 })
                        .sum()
                }
            })
            .collect()
    }
}

/// The steps of a decoder, those of sequences one by one.
fn parts(decoder: &DecoderWrapper) -> Vec<&DecoderWrapper> {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().flat_map(parts).collect()
        }
        one => vec![one],
    }
}

/// Whether `token` is `<0xHH>`.
fn is_byte(token: &str) -> bool {
    token
        .strip_prefix("<0x")
        .and_then(|t| t.strip_suffix('>'))
        .is_some_and(|hex| hex.len() == 2 && u8::from_str_radix(hex, 16).is_ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn tokenizer(json: Value) -> Tokenizer {
        let json = json.to_string().into_bytes();
        Tokenizer::from_parts(Path::new("tokenizer.json"), json, None, Some("</s>")).unwrap()
    }

    #[test]
    fn byte_level_tokens_count_a_byte_a_character() {
        let tokenizer = tokenizer(json!({
            "added_tokens": [
                {"id": 4, "content": "</s>", "special": true, "single_word": false,
                 "lstrip": false, "rstrip": false, "normalized": false},
                {"id": 5, "content": "→", "special": false, "single_word": false,
                 "lstrip": false, "rstrip": false, "normalized": false}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true,
                              "trim_offsets": true},
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                        "use_regex": true},
            "model": {"type": "BPE", "vocab": {"a": 0, "Ġa": 1, "Ã": 2, "©": 3}, "merges": []},
        }));
        // "Ã" and "©" are the two bytes of "é"; what is added is spelled as it is.
        assert_eq!(tokenizer.byte_lengths(), [1, 2, 1, 1, 0, 3]);
    }

    #[test]
    fn sentencepiece_tokens_have_spaces_and_bytes() {
        let tokenizer = tokenizer(json!({
            "added_tokens": [
                {"id": 0, "content": "</s>", "special": true, "single_word": false,
                 "lstrip": false, "rstrip": false, "normalized": false}],
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {"type": "BPE", "vocab": {"</s>": 0, "<0x0A>": 1, "▁é": 2, "abc": 3},
                      "merges": [], "byte_fallback": true},
        }));
        assert_eq!(tokenizer.byte_lengths(), [0, 1, 3, 3]);
    }

    #[test]
    fn a_trained_tokenizers_lengths_add_up_to_the_text() {
        let texts = (0..50).map(|i| format!("Once upon a time a cat sat on {i} mats."));
        let tokenizer = crate::train(texts, 300).unwrap();
        let lengths = tokenizer.byte_lengths();
        for text in ["Once upon a time, naïve café – 日本語 🙂\n\n", "x"] {
            let ids = tokenizer.encode(text).unwrap();
            let sum: u32 = ids.iter().map(|&id| lengths[id as usize]).sum();
            assert_eq!(sum as usize, text.len());
        }
        assert_eq!(lengths[tokenizer.eot() as usize], 0);
    }
}
