//! Tiny models, text and random numbers for the tests of all crates. Everything is generated; nothing is a file.
//!
//! [`Random`] and [`alone`] need no other crate. Everything else is behind features, so that a crate's tests build no more than they
//! use.
//!
//! ```
//! use retort_test_kit::Random;
//!
//! let mut random = Random::new(7);
//! assert!(random.f32s(100).iter().all(|x| (-1.0..1.0).contains(x)));
//! ```

mod alone;
#[cfg(feature = "checkpoint")]
mod checkpoint;
#[cfg(feature = "corpus")]
mod corpus;
#[cfg(feature = "engine")]
mod gguf;
#[cfg(feature = "engine")]
pub mod hf;
#[cfg(feature = "engine")]
pub mod http;
#[cfg(feature = "engine")]
mod program;
mod random;
#[cfg(feature = "engine")]
pub mod reference;

pub use alone::alone;
#[cfg(feature = "checkpoint")]
pub use checkpoint::{CONTEXT, write_checkpoint};
#[cfg(feature = "corpus")]
pub use corpus::{write_corpus, write_tokenizer};
#[cfg(feature = "engine")]
pub use gguf::{
    Shape, random_blocks, tensors, text, vocabulary, weights, write_gguf, write_gguf_changed,
    write_gguf_where, write_gguf_with,
};
#[cfg(feature = "engine")]
pub use program::program;
pub use random::Random;
