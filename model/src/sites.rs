//! The linear layers of a model, each by its place: what adapters stand beside.

use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::linear::Linear;
use crate::tensors::Projection;

/// Where a linear layer stands. Where a checkpoint fuses q, k and v, they are three sites
/// of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// A projection of a layer.
    Layer(usize, Projection),
    /// The head, where it is not tied to the embedding.
    Head,
}

impl Site {
    /// All of a model of `config`, in the order in which it is built.
    pub(crate) fn all(config: &ModelConfig) -> impl Iterator<Item = Self> + use<> {
        let layers = 0..config.num_hidden_layers;
        let head = (!config.tie_word_embeddings).then_some(Self::Head);
        layers
            .flat_map(|layer| Projection::ALL.map(|p| Self::Layer(layer, p)))
            .chain(head)
    }

    /// The name of its module in a checkpoint.
    pub(crate) fn module(self, config: &ModelConfig) -> String {
        match self {
            Self::Layer(layer, projection) => projection.module(config, layer),
            Self::Head => config.model_type.family().names().head.to_owned(),
        }
    }

    /// `[in, out]`.
    pub(crate) fn dims(self, config: &ModelConfig) -> [usize; 2] {
        match self {
            Self::Layer(_, projection) => projection.dims(config),
            Self::Head => [config.hidden_size, config.vocab_size],
        }
    }

    /// Its number among [`all`](Self::all).
    pub(crate) fn index(self, config: &ModelConfig) -> usize {
        let per_layer = Projection::ALL.len();
        match self {
            Self::Layer(layer, projection) => layer * per_layer + projection as usize,
            Self::Head => config.num_hidden_layers * per_layer,
        }
    }
}

impl Decoder {
    /// The layer at `site`.
    ///
    /// # Panics
    /// The head of a model that has none of its own.
    pub(crate) fn linear(&self, site: Site) -> &Linear {
        match site {
            Site::Layer(layer, projection) => self.layers[layer].linear(projection),
            Site::Head => self.lm_head.as_ref().expect("the config is not tied"),
        }
    }

    /// The same to change.
    ///
    /// # Panics
    /// As [`linear`](Self::linear).
    pub(crate) fn linear_mut(&mut self, site: Site) -> &mut Linear {
        match site {
            Site::Layer(layer, projection) => self.layers[layer].linear_mut(projection),
            Site::Head => self.lm_head.as_mut().expect("the config is not tied"),
        }
    }
}
