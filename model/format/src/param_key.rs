//! Which parameter of a decoder: the key that checkpoints, modules, adapters and optimizers share.

use crate::config::ModelConfig;

/// A parameter of a decoder. The number is the layer's.
///
/// Where a checkpoint fuses q, k and v into one tensor, they are three keys of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKey {
    /// The table of token embeddings.
    Embedding,
    /// The norm before the head.
    FinalNorm,
    /// The head, where it is not tied to the embedding.
    Head,
    /// The norm before attention.
    InputNorm(usize),
    /// The norm before the feed-forward block.
    PostNorm(usize),
    /// The norm over each head of q.
    QNorm(usize),
    /// The norm over each head of k.
    KNorm(usize),
    /// A linear layer's matrix.
    Weight(usize, LayerLinear),
    /// What is added to a linear layer's output.
    Bias(usize, LayerLinear),
}

/// A linear layer of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerLinear {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention's output.
    O,
    /// The gate of SwiGLU.
    Gate,
    /// What the gate is multiplied with.
    Up,
    /// Back to the residual stream.
    Down,
}

impl LayerLinear {
    /// In the order in which a block builds them.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// `[in, out]` in a model of `config`.
    pub fn dims(self, config: &ModelConfig) -> [usize; 2] {
        let d = config.hidden_size;
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let inner = config.inner_size();
        match self {
            Self::Q => [d, q],
            Self::K | Self::V => [d, kv],
            Self::O => [q, d],
            Self::Gate | Self::Up => [d, inner],
            Self::Down => [inner, d],
        }
    }

    /// Whether a model of `config` adds a bias.
    pub fn has_bias(self, config: &ModelConfig) -> bool {
        match self {
            Self::Q | Self::K | Self::V => config.model_type.qkv_bias() || config.attention_bias,
            Self::O => config.attention_bias,
            Self::Gate | Self::Up | Self::Down => config.mlp_bias,
        }
    }

    /// Its module's name in layer `layer`, such as `model.layers.0.self_attn.q_proj`.
    pub fn module(self, config: &ModelConfig, layer: usize) -> String {
        let names = &config.model_type.family().names;
        let name = match self {
            Self::Q => names.q,
            Self::K => names.k,
            Self::V => names.v,
            Self::O => names.o,
            Self::Gate => names.gate,
            Self::Up => names.up,
            Self::Down => names.down,
        };
        format!("{}.{layer}.{name}", names.layers)
    }
}

impl ParamKey {
    /// The matrices of all linear layers of a model of `config`, in the order in which it is
    /// built; the head last, if it has one of its own.
    pub fn linears(config: &ModelConfig) -> impl Iterator<Item = Self> + use<> {
        let layers = 0..config.num_hidden_layers;
        let head = (!config.tie_word_embeddings).then_some(Self::Head);
        layers
            .flat_map(|layer| LayerLinear::ALL.map(|linear| Self::Weight(layer, linear)))
            .chain(head)
    }

    /// The layer that it belongs to, if it belongs to one.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Embedding | Self::FinalNorm | Self::Head => None,
            Self::InputNorm(layer)
            | Self::PostNorm(layer)
            | Self::QNorm(layer)
            | Self::KNorm(layer)
            | Self::Weight(layer, _)
            | Self::Bias(layer, _) => Some(layer),
        }
    }

    /// The name of its module in a checkpoint, such as `model.layers.0.self_attn.q_proj`.
    pub fn module(self, config: &ModelConfig) -> String {
        let names = &config.model_type.family().names;
        let at = |layer, name| format!("{}.{layer}.{name}", names.layers);
        match self {
            Self::Embedding => names.embedding.to_owned(),
            Self::FinalNorm => names.norm.to_owned(),
            Self::Head => names.head.to_owned(),
            Self::InputNorm(layer) => at(layer, names.input_norm),
            Self::PostNorm(layer) => at(layer, names.post_norm),
            Self::QNorm(layer) => at(layer, names.q_norm),
            Self::KNorm(layer) => at(layer, names.k_norm),
            Self::Weight(layer, linear) | Self::Bias(layer, linear) => linear.module(config, layer),
        }
    }

    /// The name of its tensor in a checkpoint.
    pub fn tensor(self, config: &ModelConfig) -> String {
        format!("{}.{}", self.module(config), self.suffix())
    }

    /// What the name of its tensor ends in.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Bias(..) => "bias",
            _ => "weight",
        }
    }

    /// `[in, out]` of a matrix among [`linears`](Self::linears).
    ///
    /// # Panics
    /// It is another parameter.
    pub fn dims(self, config: &ModelConfig) -> [usize; 2] {
        match self {
            Self::Weight(_, linear) => linear.dims(config),
            Self::Head => [config.hidden_size, config.vocab_size],
            other => panic!("{other:?} is not the matrix of a linear layer"),
        }
    }

    /// Its number among [`linears`](Self::linears).
    ///
    /// # Panics
    /// As [`dims`](Self::dims).
    pub fn index(self, config: &ModelConfig) -> usize {
        let per_layer = LayerLinear::ALL.len();
        match self {
            Self::Weight(layer, linear) => layer * per_layer + linear as usize,
            Self::Head => config.num_hidden_layers * per_layer,
            other => panic!("{other:?} is not the matrix of a linear layer"),
        }
    }
}
