//! The architectures and what files call them.

use serde::{Deserialize, Serialize};

/// The architectures, by `config.json`'s `model_type` and GGUF's `general.architecture`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Llama 2 and 3, SmolLM2 (`LlamaForCausalLM`).
    #[default]
    Llama,
    /// Qwen, the first version (`QWenLMHeadModel`).
    Qwen,
    /// Qwen2 and Qwen2.5 (`Qwen2ForCausalLM`).
    Qwen2,
    /// Qwen3 without experts (`Qwen3ForCausalLM`).
    Qwen3,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Qwen, Self::Qwen2, Self::Qwen3];

    /// The architecture called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    /// Every name, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Its `model_type`, which is also its name in a GGUF file and the prefix of its keys there.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen => "qwen",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}
