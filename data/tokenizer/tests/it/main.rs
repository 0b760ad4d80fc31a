//! Tokenizers read, trained, converted and compared with the `tokenizers` crate.

mod convert;
mod fast_encoder;
mod forms;
mod malformed;
mod tables;
mod trained;
