//! The architectures, as what each does differently from Llama.
//!
//! All are one decoder: pre-norm blocks of attention with rotary positions and SwiGLU. They differ
//! in how `config.json` is spelled, in the names of tensors, in biases and norms of q and k, in
//! whether q, k and v are one tensor, and in how a GGUF file orders rotary pairs. One file each,
//! a [`Family`] that names what differs. A new architecture is a file here and a variant of
//! [`Architecture`].

mod family;
pub(crate) mod kind;
mod llama;
mod qwen;
mod qwen2;
mod qwen3;

pub(crate) use family::Family;
pub use family::RopePairs;
pub use kind::Architecture;

impl Architecture {
    /// Whether q, k and v always have biases; others may ([`ModelConfig::attention_bias`](crate::ModelConfig::attention_bias)).
    pub fn qkv_bias(self) -> bool {
        self.family().qkv_bias
    }

    /// Whether each head of q and k goes through an RMSNorm before it is rotated.
    pub fn qk_norm(self) -> bool {
        self.family().qk_norm
    }

    /// Whether q, k and v are the rows of one tensor, in this order.
    pub fn fused_qkv(self) -> bool {
        let names = &self.family().names;
        names.q == names.k
    }

    /// How rotary pairs lie in the rows of q and k of a GGUF file; in a checkpoint they are
    /// always halves.
    pub fn rope_pairs(self) -> RopePairs {
        self.family().rope_pairs
    }

    /// What it does differently.
    pub(crate) fn family(self) -> &'static Family {
        match self {
            Self::Llama => &llama::FAMILY,
            Self::Qwen => &qwen::FAMILY,
            Self::Qwen2 => &qwen2::FAMILY,
            Self::Qwen3 => &qwen3::FAMILY,
        }
    }
}
