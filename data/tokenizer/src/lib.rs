//! Text to token ids and back, for tokenizers of every published form.
//!
//! A [`Tokenizer`] is a Hugging Face `tokenizer.json` with its end-of-text id. It is read from a
//! file, [trained](train) on text, or [converted](convert) from Qwen v1's `qwen.tiktoken` or a
//! SentencePiece `tokenizer.model`.
//!
//! ```text
//! tokenizer.json ───────────────┐
//! qwen.tiktoken ─► convert ─────┼─► Tokenizer ─► encode ─► ids
//! tokenizer.model ─► convert ───┤        └─► decode ─► text
//! text ─► train ────────────────┘
//! ```
//!
//! [`ByteLevelVocabulary`] cuts a vocabulary: it gives the file with some of its tokens alone.
//!
//! The `tokenizers` crate reads the file, decodes, and is the reference for every id. Text for a
//! byte-level BPE with a published split rule goes through [`ByteLevelBpe`], which is faster and
//! gives the same ids. Programs that have a vocabulary from another kind of file use it directly.
//!
//! ```
//! let texts = ["a cat sat on a mat", "the cat sat"].map(String::from);
//! let tokenizer = retort_tokenizer::train(texts.into_iter(), 270)?;
//! let ids = tokenizer.encode("a cat")?;
//! assert_eq!(tokenizer.decode(&ids)?, "a cat");
//! # Ok::<(), retort_tokenizer::Error>(())
//! ```
//!
//! This crate knows no models and no sources of text.

mod bpe;
mod byte_alphabet;
mod catch_panic;
mod convert;
mod cut;
mod encode;
mod error;
mod merge_pair;
mod open;
mod split;
mod token_bytes;
mod tokenizer;
mod tokenizer_json;
mod train;

pub use bpe::{BpeOptions, ByteLevelBpe};
pub use byte_alphabet::byte_alphabet;
pub use catch_panic::{catch_panic, catch_panic_as_error};
pub use convert::convert;
pub use cut::{ByteLevelVocabulary, NewIds, renumber};
pub use error::{Error, Result};
pub use merge_pair::merge_pair;
pub use split::SplitRule;
pub use tokenizer::Tokenizer;
pub use train::train;
