//! Calibrated quantization: a model rounded layer by layer so that what its layers answer changes least.
//!
//! ```text
//! texts ─► token ids [n] ─► hidden [n, hidden_size], as the rounded layers before compute it
//! layer by layer:   balance (which numbers compute the same function)
//!   group by group (q k v │ o │ gate up │ down):   inputs ─► moments ─► rounding
//! ```
//!
//! The moments of a group's inputs are taken where all before it is rounded already. Rounding passes errors on: `gptq`.
//! Memory: one layer's weights in f32, the moments of one group (n² twice in f32, once in f64), and per token of
//! calibration `hidden_size + intermediate_size` f32.

mod awq;
mod cap;
mod coordinate_descent;
mod gptq;
mod layer_runner;
mod ldl;
mod settings;
mod weights;

use crate::source::WeightSource;
use cap::cap;
use layer_runner::{LayerRunner, Stream};
use ldl::Factor;
use retort_engine::decoder::layer::LinearGroup;
use retort_format::quant::search::is_searched;
use retort_format::{Error, GgmlType, LayerLinear, ParamKey, Result};
use retort_kernels::dense::{add_squares, mirror};
use retort_kernels::pool::Pool;
pub use settings::CalibrationSettings;
pub use weights::Encoded;
use weights::{LayerWeights, changed_vectors};

/// The token ids of calibration in windows of `context`, one after the other.
///
/// # Errors
///
/// [`Error::Argument`] if `texts` have fewer tokens than one window.
pub fn windows(
    texts: impl Iterator<Item = Result<Vec<u32>>>,
    tokens: usize,
    context: usize,
) -> Result<Vec<u32>> {
    if context < 2 {
        let problem = format!("calibration in windows of {context}; they have 2 tokens at least");
        return Err(Error::Argument(problem));
    }
    let wanted = (tokens / context).max(1) * context;
    let mut ids = Vec::new();
    for text in texts {
        ids.extend(text?);
        if ids.len() >= wanted {
            break;
        }
    }
    let whole = ids.len().min(wanted) / context * context;
    if whole == 0 {
        return Err(Error::Argument(format!(
            "the calibration text has {} tokens, less than one window of {context}; give more",
            ids.len()
        )));
    }
    ids.truncate(whole);
    Ok(ids)
}

/// The tensors that calibration writes of a layer, by number, in its order: the norms and biases that it may change, and
/// the matrices.
pub(crate) fn tensors(source: &dyn WeightSource, layer: usize) -> Vec<usize> {
    let model = source.model_config();
    let matrices = LayerLinear::ALL.map(|linear| ParamKey::Weight(layer, linear));
    let keys = changed_vectors(layer).into_iter().chain(matrices);
    let mut names: Vec<_> = keys.map(|key| key.gguf_tensor(&model)).collect();
    // where q, k and v are one tensor
    names.dedup();
    names.iter().filter_map(|name| source.find(name)).collect()
}

/// A parent that is being rounded, layer by layer.
pub struct Calibration<'e> {
    source: &'e dyn WeightSource,
    runner: LayerRunner<'e>,
    settings: CalibrationSettings,
    /// As the rounded layers compute.
    stream: Stream,
    next: usize,
}

impl<'e> Calibration<'e> {
    /// Begins with `tokens`, whole windows, whose embeddings the rounded model decodes by `rounded_row`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for ids outside the vocabulary or settings out of range.
    pub fn new(
        source: &'e dyn WeightSource,
        pool: &'e Pool,
        settings: &CalibrationSettings,
        tokens: &[u32],
        rounded_row: impl Fn(u32, &mut [f32]) -> Result<()>,
    ) -> Result<Self> {
        let config = source.config();
        config.check_tokens(tokens)?;
        if settings.context < 2 || settings.context > config.context_length {
            let problem = format!(
                "calibration in windows of {}; between 2 and the model's context of {} is possible",
                settings.context, config.context_length
            );
            return Err(Error::Argument(problem));
        }
        if !(settings.damping > 0.0 && settings.damping.is_finite()) {
            let problem = format!(
                "calibration with damping {}; it is a positive number",
                settings.damping
            );
            return Err(Error::Argument(problem));
        }
        if !tokens.len().is_multiple_of(settings.context) || tokens.is_empty() {
            let problem = format!(
                "{} tokens of calibration are no whole windows of {}",
                tokens.len(),
                settings.context
            );
            return Err(Error::Argument(problem));
        }
        Ok(Self {
            source,
            runner: LayerRunner::new(source, pool, settings.context)?,
            settings: settings.clone(),
            stream: Stream::new(config.hidden_size, tokens, rounded_row)?,
            next: 0,
        })
    }

    /// Goes on where another calibration with the same settings was after `layers`, its residual stream being `states`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if that cannot be: too many layers, or other sizes.
    pub(crate) fn go_on(&mut self, layers: usize, states: Vec<f32>) -> Result<()> {
        let fits =
            layers <= self.source.config().n_layers && states.len() == self.stream.hidden.len();
        if !fits {
            let problem = "what an earlier calibration kept does not fit; remove its directory";
            return Err(Error::Argument(problem.into()));
        }
        (self.next, self.stream.hidden) = (layers, states);
        Ok(())
    }

    /// The residual stream of the rounded model after the layers done so far, [n, hidden_size].
    pub fn states(&self) -> &[f32] {
        &self.stream.hidden
    }

    /// Rounds the next layer's matrices, each to the type that `ty` gives its name.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when all layers are done, for a type that is not written, and for inputs or weights that are
    /// no finite numbers.
    pub fn next_layer(&mut self, ty: impl Fn(&str) -> GgmlType) -> Result<Vec<Encoded>> {
        if self.next == self.source.config().n_layers {
            return Err(Error::Argument("all layers are rounded already".into()));
        }
        let mut layer = LayerWeights::read(self.source, self.next)?;
        if self.settings.balance {
            awq::balance(&self.runner, &self.stream, &mut layer, &ty)?;
        }
        let vectors = layer.changed_vectors(&self.source.model_config(), self.next);
        let mut out: Vec<Encoded> = (vectors.into_iter())
            .map(|(name, values)| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        for group in LinearGroup::ALL {
            out.extend(self.round(&mut layer, group, &ty)?);
            self.runner.step(&mut self.stream, &layer, group)?;
        }
        self.next += 1;
        Ok(out)
    }

    /// Rounds the matrices of a group; they become those of the rounded model.
    fn round(
        &self,
        layer: &mut LayerWeights,
        group: LinearGroup,
        ty: &impl Fn(&str) -> GgmlType,
    ) -> Result<Vec<Encoded>> {
        let pool = self.runner.pool;
        let tensors = &layer.group(group).tensors;
        if !tensors.iter().any(|(name, _)| is_searched(ty(name))) {
            return gptq::round_plainly(layer.group_mut(group), ty);
        }
        let moments = self.moments(layer, group);
        let weights = layer.group_mut(group);
        let n = weights.columns;
        let factor = Factor::new(pool, moments, n, self.settings.damping)?;
        let mut rest = weights.weights.as_mut_slice();
        let mut out = Vec::new();
        for (name, rows) in &weights.tensors {
            let part;
            (part, rest) = rest.split_at_mut(rows * n);
            let bytes = gptq::round(pool, ty(name), &factor, part, self.settings.passes)?;
            out.push((name.clone(), bytes));
        }
        Ok(out)
    }

    /// The moments of a group's `n` inputs in the rounded model: the mean of `x xᵀ` [n, n].
    fn moments(&self, layer: &LayerWeights, group: LinearGroup) -> Vec<f32> {
        let (n, vectors) = (layer.group(group).columns, &layer.vectors);
        let mut sums = vec![0.0; n * n];
        self.runner.each_input(&self.stream, vectors, group, |x| {
            cap(x, n);
            add_squares(self.runner.pool, x, n, &mut sums);
        });
        mirror(&mut sums, n);
        let mean = 1.0 / self.runner.tokens(&self.stream) as f32;
        sums.iter_mut().for_each(|sum| *sum *= mean);
        sums
    }
}
