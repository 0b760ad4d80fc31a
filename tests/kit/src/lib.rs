//! Tiny models, text and random numbers for the tests of all crates. Everything is generated; nothing is a file.

mod gguf;
pub mod hf;
pub mod http;
mod program;
pub mod reference;

pub use gguf::{
    Shape, random_blocks, tensors, text, vocabulary, weights, write_gguf, write_gguf_changed,
    write_gguf_where,
};
pub use program::program;
