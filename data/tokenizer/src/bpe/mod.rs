//! Byte-level byte-pair encoding: the encoder, and which `tokenizer.json` files it covers.

mod encoder;
mod merges;
mod merges_json;
mod recognise;
mod word_cache;

pub use encoder::{BpeOptions, ByteLevelBpe};
pub(crate) use recognise::recognise;
