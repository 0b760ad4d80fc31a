//! What a conversion tells its caller: on the way, and when a file is there.

/// What a conversion tells its caller on the way.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Something the user should know.
    Notice(String),
    /// A part of a tensor has been written.
    Weights {
        /// Weights written so far.
        done: u64,
        /// Weights to be written.
        total: u64,
    },
}

/// A GGUF file that has been written.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// Weights in the file.
    pub parameters: u64,
    /// Tensors in the file.
    pub tensors: usize,
    /// The file's size in bytes.
    pub bytes: u64,
    /// Bits of all tensors over their weights.
    pub bits_per_weight: f64,
}
