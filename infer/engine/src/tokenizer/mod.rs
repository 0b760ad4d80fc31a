//! Text to token ids and back, from the vocabulary inside a GGUF file.
//!
//! In: UTF-8 text; out: ids below the vocabulary's size, and bytes on the way back (a token may
//! end inside a character; [`Utf8Stream`] puts them together again). The encoder is
//! [`retort_tokenizer::ByteLevelBpe`], the same as the trainer's; words are cut by the rule that the
//! file names ([`pre`]). Control tokens are recognised in text only when the caller asks for it, so
//! that text from outside cannot forge one.

mod gguf;
mod gguf_tokenizer;
mod guard;
pub mod pre;
mod stream;
mod vocabulary;

pub use gguf_tokenizer::Tokenizer;
pub use guard::{Guard, long_integer};
pub(crate) use guard::{MARK, as_long_integer};
pub use stream::Utf8Stream;
pub use vocabulary::{TokenType, Vocabulary};
