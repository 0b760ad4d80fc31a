//! Low-rank adapters (Hu et al., arXiv 2106.09685): `y += (x A) B · alpha / rank` beside
//! chosen linear layers whose own weights stay as they are.
//!
//! In: a [`LoraConfig`], a recipe's `[lora]`. Out: a decoder in which only A and B are
//! trained. Saving a model merges them into its weights; [`save_adapters`] writes them
//! alone.
//!
//! [`save_adapters`]: crate::save_adapters

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{DType, Tensor, TensorData};
use glob::Pattern;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retort_format::{Error, ModelConfig, ParamKey, Result};
use serde::{Deserialize, Serialize};

use crate::adapter::Adapter;
use crate::decoder::Decoder;

/// `[lora]`: which layers get adapters, and of what size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Inner width of an adapter.
    pub rank: usize,
    /// An adapter's output is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Modules by the end of their name (`q_proj`) or by a pattern over the whole of it
    /// (`model.layers.1?.mlp.*`).
    pub targets: Vec<String>,
}

/// Adapters' parameter ids begin here, far above those of any model's own.
const FIRST_ID: u64 = 1 << 32;

impl LoraConfig {
    /// The layers of `config`'s model that get adapters.
    ///
    /// # Errors
    /// [`Error::Lora`] for a rank or alpha that is not positive, a pattern that is not one,
    /// or a target that no layer has.
    pub(crate) fn chosen(&self, config: &ModelConfig) -> Result<Vec<ParamKey>> {
        let bad = |field, reason: String| Err(Error::Lora { field, reason });
        if self.rank == 0 || self.rank > config.hidden_size {
            return bad(
                "rank",
                format!("must be between 1 and {}", config.hidden_size),
            );
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return bad("alpha", "must be above 0".into());
        }
        if self.targets.is_empty() {
            return bad("targets", "must name at least one layer".into());
        }
        let mut chosen = Vec::new();
        let mut used = vec![false; self.targets.len()];
        let mut patterns = Vec::new();
        for target in &self.targets {
            for text in [target.clone(), format!("*.{target}")] {
                match Pattern::new(&text) {
                    Ok(pattern) => patterns.push(pattern),
                    Err(e) => return bad("targets", format!("\"{target}\": {e}")),
                }
            }
        }
        for site in ParamKey::linears(config) {
            let module = site.module(config);
            let mut any = false;
            for (i, pair) in patterns.chunks(2).enumerate() {
                if pair.iter().any(|p| p.matches(&module)) {
                    used[i] = true;
                    any = true;
                }
            }
            if any {
                chosen.push(site);
            }
        }
        if let Some(i) = used.iter().position(|used| !used) {
            let first = |site: &ParamKey| !matches!(site, ParamKey::Weight(layer, _) if *layer > 0);
            let mut names: Vec<String> = ParamKey::linears(config)
                .filter(first)
                .map(|site| site.module(config))
                .collect();
            names.dedup();
            let (target, names) = (&self.targets[i], names.join(", "));
            return bad(
                "targets",
                format!("no layer is called \"{target}\"; there are {names}"),
            );
        }
        Ok(chosen)
    }
}

impl Decoder {
    /// Freezes all weights and puts adapters beside the layers that `lora` chooses. Their
    /// A is uniform within ±1/√in and B zero, so that nothing changes before training.
    ///
    /// # Errors
    /// [`Error::Lora`]: see [`LoraConfig`]'s fields.
    pub fn with_adapters(self, lora: &LoraConfig, seed: u64) -> Result<Self> {
        let chosen = lora.chosen(&self.config)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let config = self.config.clone();
        self.attach(lora, &chosen, |site| {
            let [input, output] = site.dims(&config);
            let bound = 1.0 / (input as f32).sqrt();
            let a = (0..input * lora.rank).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0));
            Ok([
                TensorData::new(a.collect::<Vec<f32>>(), [input, lora.rank]),
                TensorData::new(vec![0f32; lora.rank * output], [lora.rank, output]),
            ])
        })
    }

    /// How many weights training would change: all, or the adapters' where there are any.
    pub fn trainable_parameters(&self) -> u64 {
        let adapters: u64 = ParamKey::linears(&self.config)
            .filter_map(|key| self.linear(key).adapter.as_ref())
            .map(|a| (a.a.val().shape().num_elements() + a.b.val().shape().num_elements()) as u64)
            .sum();
        match adapters {
            0 => self.config.parameters(),
            n => n,
        }
    }

    /// Freezes all weights and puts adapters at the sites `chosen`, whose A `[in, rank]` and B
    /// `[rank, out]` `values` answers.
    pub(crate) fn attach(
        self,
        lora: &LoraConfig,
        chosen: &[ParamKey],
        mut values: impl FnMut(ParamKey) -> Result<[TensorData; 2]>,
    ) -> Result<Self> {
        let device = self.norm.gamma.val().device();
        let mut model = self.map(&mut Frozen);
        for &site in chosen {
            let index = site.index(&model.config);
            let [a, b] = values(site)?;
            let param = |data, offset| {
                let tensor = Tensor::<2>::from_data(data, (&device, DType::F32));
                let id = ParamId::from(FIRST_ID + 2 * index as u64 + offset);
                Param::initialized(id, tensor.set_require_grad(device.is_autodiff()))
            };
            model.linear_mut(site).adapter = Some(Adapter {
                a: param(a, 0),
                b: param(b, 1),
                scale: lora.alpha / lora.rank as f64,
            });
        }
        Ok(model)
    }
}

/// Stops training every parameter.
struct Frozen;

impl ModuleMapper for Frozen {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.set_require_grad(false)
    }
}
