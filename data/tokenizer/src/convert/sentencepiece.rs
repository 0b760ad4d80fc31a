//! A SentencePiece BPE `tokenizer.model` (Llama 2) to a `tokenizer.json`.
//!
//! The file is a protocol buffer: the pieces, each with a score and a kind, and what training and
//! normalization were told (google/sentencepiece, `sentencepiece_model.proto`). Of two adjacent
//! pieces those merge first whose union has the highest score, so each way to cut a piece in two
//! pieces is a merge, ranked by the score. A space is written `▁`, one is put before the text if
//! the file says so, and characters without a piece are spelled in bytes. Normalizer, decoder and
//! the order of merges of equal score are as `LlamaConverter` of transformers makes them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

use sentencepiece_model::{ModelType, SentencePieceModel, Type};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json;

/// Bytes of the longest piece.
const LONGEST: usize = 512;

/// A SentencePiece model of BPE type without a normalization table.
///
/// The document ends with the model's end-of-sentence piece (`</s>`).
///
/// # Errors
///
/// It is not a SentencePiece model, is of another type (unigram, word, character), normalizes text
/// in a way that is not carried over, or its pieces contradict each other.
pub(super) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    let fail = |reason: String| Error::invalid(path, reason);
    let model = SentencePieceModel::from_slice(bytes)
        .map_err(|e| fail(format!("not a SentencePiece model: {e}")))?;
    let parts = ModelParts::new(&model).map_err(fail)?;
    let json = parts.tokenizer_json();
    let config = tokenizer_json::config(parts.begin, parts.end, Some(parts.unknown));
    Tokenizer::from_values(path, &json, config, parts.end)
}

/// What is taken from a model.
struct ModelParts<'m> {
    /// The pieces in the order of their ids.
    pieces: Vec<(&'m str, Type)>,
    merges: Vec<(&'m str, &'m str)>,
    unknown: &'m str,
    begin: Option<&'m str>,
    end: &'m str,
    space_before: bool,
    byte_fallback: bool,
}

impl<'m> ModelParts<'m> {
    fn new(model: &'m SentencePieceModel) -> std::result::Result<Self, String> {
        let trainer = model
            .trainer()
            .ok_or("the SentencePiece model does not say how it was trained")?;
        if trainer.model_type() != ModelType::Bpe {
            return Err(format!(
                "a SentencePiece model of type {:?}; only BPE is converted: give a tokenizer.json",
                trainer.model_type()
            ));
        }
        let normalizer = model
            .normalizer()
            .ok_or("the SentencePiece model does not say how it normalizes")?;
        let unlike = [
            (
                !normalizer.precompiled_charsmap().is_empty(),
                "a normalization table",
            ),
            (
                normalizer.remove_extra_whitespaces(),
                "remove_extra_whitespaces",
            ),
            (!normalizer.escape_whitespaces(), "spaces as they are"),
            (
                trainer.treat_whitespace_as_suffix(),
                "treat_whitespace_as_suffix",
            ),
        ];
        if let Some((_, what)) = unlike.iter().find(|(is_so, _)| *is_so) {
            return Err(format!(
                "a SentencePiece model with {what} is not converted: give a tokenizer.json"
            ));
        }
        let space_before = normalizer.add_dummy_prefix();
        let pieces: Vec<(&str, Type)> = model
            .pieces()
            .iter()
            .map(|piece| (piece.piece(), piece.r#type()))
            .collect();
        let mut ids: HashMap<&str, usize> = HashMap::with_capacity(pieces.len());
        for (id, (piece, kind)) in pieces.iter().enumerate() {
            if piece.is_empty() || piece.len() > LONGEST {
                let length = piece.len();
                return Err(format!(
                    "piece {id} has {length} bytes; 1 to {LONGEST} are allowed"
                ));
            }
            if let Some(first) = ids.insert(piece, id) {
                return Err(format!("pieces {first} and {id} are both {piece:?}"));
            }
            if *kind == Type::Unused || (*kind == Type::UserDefined && space_before) {
                return Err(format!(
                    "piece {id}, {piece:?}, is {kind:?}, which is not converted: give a tokenizer.json"
                ));
            }
        }
        let of_kind = |kind: Type, name: &'m str| {
            let id = *ids.get(name)?;
            (pieces[id].1 == kind).then_some(name)
        };
        let unknown = pieces.iter().find(|(_, kind)| *kind == Type::Unknown);
        let (unknown, _) = unknown.ok_or("the SentencePiece model has no unknown piece")?;
        let end = of_kind(Type::Control, trainer.eos_piece())
            .ok_or_else(|| format!("no control piece {:?} ends a text", trainer.eos_piece()))?;
        Ok(Self {
            merges: merges(model, &ids)?,
            unknown,
            begin: of_kind(Type::Control, trainer.bos_piece()),
            end,
            space_before,
            byte_fallback: trainer.byte_fallback(),
            pieces,
        })
    }

    fn tokenizer_json(&self) -> Value {
        let vocab: Map<String, Value> = self
            .pieces
            .iter()
            .enumerate()
            .map(|(id, (piece, _))| ((*piece).to_owned(), id.into()))
            .collect();
        let special = [Type::Unknown, Type::Control, Type::UserDefined];
        let added: Vec<Value> = self
            .pieces
            .iter()
            .enumerate()
            .filter(|(_, (_, kind))| special.contains(kind))
            .map(|(id, (piece, kind))| {
                let own = *kind == Type::UserDefined;
                let mut token = tokenizer_json::added_token(id, piece, !own);
                // SentencePiece looks for them where a space is `▁` already.
                token["normalized"] = own.into();
                token
            })
            .collect();
        let mut normalizers = Vec::new();
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.space_before {
            normalizers.push(json!({"type": "Prepend", "prepend": "▁"}));
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        normalizers.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": null,
            "post_processor": self.begin.map(|begin| self.template(begin)),
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": self.unknown,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
                "byte_fallback": self.byte_fallback, "ignore_merges": false,
                "vocab": vocab, "merges": self.merges,
            },
        })
    }

    /// The begin token before a text, for those who ask `transformers` for special tokens.
    fn template(&self, begin: &str) -> Value {
        let id = self.pieces.iter().position(|(piece, _)| *piece == begin);
        let token = |part| json!({"SpecialToken": {"id": begin, "type_id": part}});
        let text = |name, part| json!({"Sequence": {"id": name, "type_id": part}});
        let mut special = Map::new();
        special.insert(
            begin.to_owned(),
            json!({"id": begin, "ids": [id], "tokens": [begin]}),
        );
        json!({
            "type": "TemplateProcessing",
            "single": [token(0), text("A", 0)],
            "pair": [token(0), text("A", 0), token(1), text("B", 1)],
            "special_tokens": special,
        })
    }
}

/// Every way to put an ordinary piece together from two, from the highest score; of the same score
/// the longer left part first.
fn merges<'m>(
    model: &'m SentencePieceModel,
    ids: &HashMap<&str, usize>,
) -> std::result::Result<Vec<(&'m str, &'m str)>, String> {
    let pieces = model.pieces();
    let mergeable = |part: &str| {
        let id = *ids.get(part)?;
        matches!(pieces[id].r#type(), Type::Normal | Type::UserDefined).then_some(id)
    };
    let mut found = Vec::new();
    for (id, piece) in pieces.iter().enumerate() {
        let (text, score) = (piece.piece(), piece.score());
        if score.is_nan() {
            return Err(format!("piece {id}, {text:?}, has no number for a score"));
        }
        if piece.r#type() != Type::Normal {
            continue;
        }
        let cuts = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        let known = cuts
            .filter_map(|(left, right)| Some((mergeable(left)?, mergeable(right)?, left, right)));
        found.extend(
            known.map(|(left_id, right_id, left, right)| (score, left_id, right_id, left, right)),
        );
    }
    let length = |text: &str| Reverse(text.chars().count());
    found.sort_by(|a, b| {
        let score = b.0.total_cmp(&a.0);
        let lengths = || (length(a.3), length(a.4)).cmp(&(length(b.3), length(b.4)));
        score
            .then_with(lengths)
            .then(a.1.cmp(&b.1))
            .then(a.2.cmp(&b.2))
    });
    Ok(found
        .into_iter()
        .map(|(.., left, right)| (left, right))
        .collect())
}
