//! tokenizer.json and tokenizer_config.json from a GGUF file's tables.
//!
//! In: a [`Vocabulary`]; out: JSON for the `tokenizers` library, with the same ids as the
//! engine's own tokenizer. Control tokens become special added tokens, user-defined ones plain
//! added tokens. Rows of the embedding table that only fill it up (`[PAD7]`) are left out: export
//! puts them back. The chat template goes into tokenizer_config.json as it is.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use retort_engine::decoder::Config;
use retort_engine::tokenizer::{TokenType, Vocabulary, pre};
use retort_format::gguf::{Gguf, Metadata};
use retort_format::{Error, Result};

/// Both files, tokenizer.json first.
pub(super) fn files(
    gguf: &Gguf,
    config: &Config,
    vocabulary: &Vocabulary,
) -> Result<(Value, Value)> {
    let refuse = |problem: String| Error::tokenizer(gguf.path(), problem);
    vocabulary.validate().map_err(refuse)?;
    if vocabulary.tokens.len() > config.vocab_size {
        let problem = format!(
            "{} tokens, but token_embd.weight has {} rows",
            vocabulary.tokens.len(),
            config.vocab_size
        );
        return Err(Error::metadata(
            gguf.path(),
            "tokenizer.ggml.tokens",
            problem,
        ));
    }
    let vocab = vocab(vocabulary).map_err(refuse)?;
    let merges: Vec<Value> = vocabulary
        .merges
        .iter()
        .map(|(left, right)| json!([left, right]))
        .collect();
    let added: Vec<(usize, Value)> = added_tokens(vocabulary).collect();
    let with_id = |(id, token): &(usize, Value)| {
        let mut token = token.clone();
        token["id"] = (*id).into();
        token
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.iter().map(with_id).collect::<Vec<_>>(),
        "normalizer": vocabulary.nfc.then(|| json!({"type": "NFC"})),
        "pre_tokenizer": vocabulary.split.to_json(),
        "post_processor": post_processor(vocabulary),
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre::ignores_merges(vocabulary.split),
            "vocab": vocab,
            "merges": merges,
        }
    });
    let mut side = json!({
        "added_tokens_decoder": added
            .into_iter()
            .map(|(id, token)| (id.to_string(), token))
            .collect::<Map<_, _>>(),
        "clean_up_tokenization_spaces": false,
        "model_max_length": config.context_length,
        // The class that takes tokenizer.json as it is.
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    let unknown = gguf.optional("tokenizer.ggml.unknown_token_id", Metadata::u32)?;
    let named = [
        ("bos_token", vocabulary.bos),
        ("eos_token", vocabulary.eos),
        ("pad_token", vocabulary.pad),
        ("unk_token", unknown),
    ];
    for (name, id) in named {
        let token = id.and_then(|id| vocabulary.tokens.get(id as usize));
        if let Some(token) = token {
            side[name] = token.as_str().into();
        }
    }
    if let Some(template) = gguf.optional("tokenizer.chat_template", Metadata::str)? {
        side["chat_template"] = template.into();
    }
    Ok((tokenizer, side))
}

/// Every token that a text can reach, by id. Added tokens stand here too, so that each keeps its
/// id whatever lies between.
fn vocab(vocabulary: &Vocabulary) -> std::result::Result<Map<String, Value>, String> {
    let mut vocab = Map::new();
    let mut unused = HashSet::new();
    for (id, (text, kind)) in vocabulary.tokens.iter().zip(&vocabulary.types).enumerate() {
        let filler = *kind == TokenType::Unused;
        if filler && *text == format!("[PAD{id}]") {
            continue;
        }
        if filler && !unused.insert(text) {
            continue;
        }
        if let Some(first) = vocab.insert(text.clone(), id.into()) {
            return Err(format!(
                "tokenizer.ggml.tokens: {text:?} is both {first} and {id}; tokenizer.json can hold it once"
            ));
        }
    }
    Ok(vocab)
}

fn added_tokens(vocabulary: &Vocabulary) -> impl Iterator<Item = (usize, Value)> {
    let kinds = vocabulary.types.iter();
    let both = vocabulary.tokens.iter().zip(kinds).enumerate();
    both.filter_map(|(id, (text, kind))| {
        let special = match kind {
            TokenType::Control | TokenType::Unknown => true,
            TokenType::UserDefined => false,
            TokenType::Normal | TokenType::Unused | TokenType::Byte => return None,
        };
        let token = json!({
            "content": text, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special
        });
        (!text.is_empty()).then_some((id, token))
    })
}

fn byte_level(trim_offsets: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim_offsets,
        "use_regex": true
    })
}

/// Puts BOS before every text, where the model was trained so.
fn post_processor(vocabulary: &Vocabulary) -> Value {
    let bos = vocabulary.bos.filter(|_| vocabulary.add_bos);
    let text = bos.and_then(|id| vocabulary.tokens.get(id as usize));
    let (Some(id), Some(text)) = (bos, text) else {
        return byte_level(false);
    };
    let begin = |kind: usize| json!({"SpecialToken": {"id": text, "type_id": kind}});
    let sequence = |name: &str, kind: usize| json!({"Sequence": {"id": name, "type_id": kind}});
    json!({
        "type": "TemplateProcessing",
        "single": [begin(0), sequence("A", 0)],
        "pair": [begin(0), sequence("A", 0), begin(1), sequence("B", 1)],
        "special_tokens": {text: {"id": text, "ids": [id], "tokens": [text]}}
    })
}
