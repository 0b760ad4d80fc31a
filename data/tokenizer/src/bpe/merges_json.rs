//! The parts of a `tokenizer.json` that `tokenizers` keeps to itself: the merges, in their order,
//! and the ids of the vocabulary, as often as they are written.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A `tokenizer.json`.
#[derive(Deserialize)]
pub(super) struct TokenizerFile<'f> {
    #[serde(borrow)]
    pub(super) model: BpeModel<'f>,
}

/// Its model.
#[derive(Deserialize)]
pub(super) struct BpeModel<'f> {
    pub(super) vocab: VocabularyIds,
    #[serde(borrow)]
    pub(super) merges: Vec<MergePair<'f>>,
}

/// The ids of a vocabulary.
pub(super) struct VocabularyIds(pub(super) Vec<u32>);

impl<'de> Deserialize<'de> for VocabularyIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = VocabularyIds;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("tokens and their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabularyIds, A::Error> {
                let mut ids = Vec::new();
                while let Some((IgnoredAny, id)) = map.next_entry()? {
                    ids.push(id);
                }
                Ok(VocabularyIds(ids))
            }
        }
        deserializer.deserialize_map(Values)
    }
}

/// A merge: `["a", "b"]`, or `"a b"` in older files.
pub(super) struct MergePair<'f>(pub(super) Cow<'f, str>, pub(super) Cow<'f, str>);

impl<'de: 'f, 'f> Deserialize<'de> for MergePair<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = MergePair<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a pair of tokens")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MergePair<'de>, E> {
                match text.split_once(' ') {
                    // The line that old files begin with is no merge, and is left to `tokenizers`.
                    Some((left, right))
                        if !right.contains(' ') && !text.starts_with("#version") =>
                    {
                        Ok(MergePair(Cow::Owned(left.into()), Cow::Owned(right.into())))
                    }
                    _ => Err(E::custom("not two tokens")),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<MergePair<'de>, A::Error> {
                let missing = || A::Error::custom("not two tokens");
                let MergeToken(left) = pair.next_element()?.ok_or_else(missing)?;
                let MergeToken(right) = pair.next_element()?.ok_or_else(missing)?;
                match pair.next_element::<IgnoredAny>()? {
                    None => Ok(MergePair(left, right)),
                    Some(_) => Err(missing()),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A token, copied only if the file escapes one of its characters.
#[derive(Deserialize)]
struct MergeToken<'f>(#[serde(borrow)] Cow<'f, str>);
