//! The architectures that the engine runs and export and import convert: llama and its relatives.
//!
//! They differ in how rotary pairs lie in a head (`llama` files interleave them, following ggml;
//! the others keep halves as transformers does), in biases (`qwen` and `qwen2` on q, k, v), in
//! normalisation of q and k (`qwen3`), and in whether q, k and v are one tensor (`qwen`).

/// A decoder architecture, named as in `general.architecture` and in config.json's `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama and everything shaped like it (SmolLM2, retort's own models).
    Llama,
    /// Qwen, the first: q, k and v in one biased matrix, as many key heads as query heads.
    Qwen,
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: q and k are normalised head by head.
    Qwen3,
}

/// Which elements of a head the rotary embedding turns together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// 2i and 2i + 1.
    Adjacent,
    /// i and i + n/2.
    Halves,
}

impl Architecture {
    const ALL: [Self; 4] = [Self::Llama, Self::Qwen, Self::Qwen2, Self::Qwen3];

    /// The architecture of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// Its name, which is also the prefix of its metadata keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen => "qwen",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// Every name, for error messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// How rotary pairs lie in the rows of q and k of a GGUF file.
    pub fn rope_pairs(self) -> RopePairs {
        match self {
            Self::Llama => RopePairs::Adjacent,
            Self::Qwen | Self::Qwen2 | Self::Qwen3 => RopePairs::Halves,
        }
    }

    /// Whether q, k and v carry a bias.
    pub fn qkv_bias(self) -> bool {
        matches!(self, Self::Qwen | Self::Qwen2)
    }

    /// Whether q, k and v are the rows of one tensor, in this order.
    pub fn fused_qkv(self) -> bool {
        self == Self::Qwen
    }

    /// Whether q and k are normalised head by head before the rotary embedding.
    pub fn qk_norm(self) -> bool {
        self == Self::Qwen3
    }
}
