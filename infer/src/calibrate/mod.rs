//! Calibrated quantization: a model rounded layer by layer so that what its layers answer changes least.
//!
//! ```text
//! texts ─► token ids [n] ─► hidden [n, hidden_size] ─┬─ as the parent computes it
//!                                                    └─ as the rounded layers before compute it
//! layer by layer, site by site (q k v │ o │ gate up │ down):
//!     inputs of both ─► moments ─► the weights that answer best to the rounded inputs ─► rounding
//! ```
//!
//! The moments of a site's inputs `x` are taken where the layers before it are rounded already, so that each site can
//! make up for their errors. With [`Settings::correction`] what is rounded is not the parent's `W` but the matrix whose
//! product with `x` comes nearest to the parent's own answer (least squares; for sites that add to the residual
//! stream, to the parent's stream as a whole); that has lost where it was measured, and is off by default. Rounding passes errors on: `rounding`. Memory: one layer's weights in f32, the moments of
//! one site (n² twice in f32, once in f64), and per token of calibration twice `hidden_size + intermediate_size` f32.

mod balance;
mod descent;
mod factor;
mod layer;
mod rounding;

use crate::engine::Engine;
use crate::kernels::dense::{add_moments, add_product, add_squares, mirror};
use crate::quant::search::is_searched;
use crate::{Error, GgmlType, Result};
use factor::{Factor, solve};
use layer::{Input, Layer, Shape, Site, Stream};

/// How a model is calibrated.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Tokens of a window.
    pub context: usize,
    /// What is added to each input's own second moment, as a share of it, so that moments of pairs count less.
    pub damping: f64,
    /// Rounds of coordinate descent after rounding.
    pub passes: usize,
    /// How much of the errors of the layers before is made up for, 0 to 1.
    pub correction: f32,
    /// Whether scales of inputs are moved into what comes before, see [`balance`].
    pub balance: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            context: 512,
            damping: 0.5,
            passes: 4,
            correction: 0.0,
            balance: false,
        }
    }
}

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

/// What calibration writes of a layer, in its order: the norms and biases that it may change, and the matrices.
pub(crate) fn tensors(engine: &Engine, layer: usize) -> Vec<String> {
    let qkv: &[&str] = match engine.config().architecture.fused_qkv() {
        true => &["attn_qkv.weight"],
        false => &["attn_q.weight", "attn_k.weight", "attn_v.weight"],
    };
    let vectors = [
        "attn_norm.weight",
        "ffn_norm.weight",
        "attn_qkv.bias",
        "attn_v.bias",
    ];
    let rest = [
        "attn_output.weight",
        "ffn_gate.weight",
        "ffn_up.weight",
        "ffn_down.weight",
    ];
    let parts = vectors.iter().chain(qkv).chain(&rest);
    let names = parts.map(|part| format!("blk.{layer}.{part}"));
    names
        .filter(|name| engine.gguf().has_tensor(name))
        .collect()
}

/// A parent that is being rounded, layer by layer.
pub struct Calibration<'e> {
    engine: &'e Engine,
    shape: Shape<'e>,
    settings: Settings,
    n_tokens: usize,
    /// As the parent computes, where that is looked at.
    exact: Option<Stream>,
    /// As the rounded layers compute.
    rounded: Stream,
    next: usize,
}

/// A tensor's name and its blocks.
pub type Encoded = (String, Vec<u8>);

impl<'e> Calibration<'e> {
    /// Begins with `tokens`, whole windows, whose embeddings the rounded model decodes by `rounded_row`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for ids outside the vocabulary or settings out of range.
    pub fn new(
        engine: &'e Engine,
        settings: &Settings,
        tokens: &[u32],
        rounded_row: impl Fn(u32, &mut [f32]) -> Result<()>,
    ) -> Result<Self> {
        engine.check_tokens(tokens)?;
        let config = engine.config();
        if settings.context < 2 || settings.context > config.context_length {
            let problem = format!(
                "calibration in windows of {}; between 2 and the model's context of {} is possible",
                settings.context, config.context_length
            );
            return Err(Error::Argument(problem));
        }
        let in_range = settings.damping > 0.0
            && settings.damping.is_finite()
            && (0.0..=1.0).contains(&settings.correction);
        if !in_range {
            let problem = format!(
                "calibration with damping {} and correction {}; the one is positive, the other from 0 to 1",
                settings.damping, settings.correction
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
        let hidden = config.hidden_size;
        let table = engine.gguf().tensor("token_embd.weight")?;
        let row_bytes = table.data.len() / config.vocab_size;
        let exact_row = |token: u32, out: &mut [f32]| {
            let at = token as usize * row_bytes;
            crate::quant::dequantize_row(table.ty, &table.data[at..at + row_bytes], out)
        };
        Ok(Self {
            engine,
            shape: Shape::new(engine, settings.context),
            settings: settings.clone(),
            n_tokens: tokens.len(),
            exact: (settings.correction > 0.0)
                .then(|| Stream::new(hidden, tokens, exact_row))
                .transpose()?,
            rounded: Stream::new(hidden, tokens, rounded_row)?,
            next: 0,
        })
    }

    /// Goes on where another calibration with the same settings was after `layers`, its residual stream being `states`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if that cannot be: too many layers, other sizes, or settings that look at the parent's stream.
    pub(crate) fn go_on(&mut self, layers: usize, states: Vec<f32>) -> Result<()> {
        let fits = layers <= self.engine.config().n_layers
            && states.len() == self.rounded.hidden.len()
            && self.exact.is_none();
        if !fits {
            let problem = "what an earlier calibration kept does not fit; remove its directory";
            return Err(Error::Argument(problem.into()));
        }
        (self.next, self.rounded.hidden) = (layers, states);
        Ok(())
    }

    /// The residual stream of the rounded model after the layers done so far, [n, hidden_size].
    pub fn states(&self) -> &[f32] {
        &self.rounded.hidden
    }

    /// Rounds the next layer's matrices, each to the type that `ty` gives its name.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when all layers are done, for a type that is not written, and for inputs or weights that are
    /// no finite numbers.
    pub fn next_layer(&mut self, ty: impl Fn(&str) -> GgmlType) -> Result<Vec<Encoded>> {
        if self.next == self.engine.config().n_layers {
            return Err(Error::Argument("all layers are rounded already".into()));
        }
        let mut layer = Layer::read(self.engine.gguf(), self.engine.config(), self.next)?;
        if self.settings.balance {
            balance::balance(&self.shape, &self.rounded, &mut layer, &ty)?;
        }
        let parent = self.exact.is_some().then(|| layer.clone());
        let exact = |stream: &mut Option<Stream>, step: &dyn Fn(&mut Stream, &Layer)| {
            if let (Some(stream), Some(parent)) = (stream, &parent) {
                step(stream, parent);
            }
        };
        let mut out = Vec::new();
        for (name, values) in layer.vectors(&self.shape.config, self.next) {
            out.push((name, values.iter().flat_map(|v| v.to_le_bytes()).collect()));
        }
        let norm = layer.attn_norm.clone();
        out.extend(self.round(&mut layer.qkv, Input::Normed(&norm), false, &ty)?);
        exact(&mut self.exact, &|s, parent| s.attend(&self.shape, parent));
        self.rounded.attend(&self.shape, &layer);
        out.extend(self.round(&mut layer.o, Input::Wide, true, &ty)?);
        exact(&mut self.exact, &|s, parent| s.add(&self.shape, &parent.o));
        self.rounded.add(&self.shape, &layer.o);
        let norm = layer.ffn_norm.clone();
        out.extend(self.round(&mut layer.gate_up, Input::Normed(&norm), false, &ty)?);
        exact(&mut self.exact, &|s, parent| s.branch(&self.shape, parent));
        self.rounded.branch(&self.shape, &layer);
        out.extend(self.round(&mut layer.down, Input::Wide, true, &ty)?);
        exact(&mut self.exact, &|s, parent| s.add(&self.shape, &parent.down));
        self.rounded.add(&self.shape, &layer.down);
        self.next += 1;
        Ok(out)
    }

    /// Rounds a site; its weights become those of the rounded model.
    fn round(
        &self,
        site: &mut Site,
        input: Input,
        adds: bool,
        ty: &impl Fn(&str) -> GgmlType,
    ) -> Result<Vec<Encoded>> {
        let (n, pool) = (site.columns, self.shape.pool);
        if !site.parts.iter().any(|(name, _)| is_searched(ty(name))) {
            return rounding::round_plainly(site, ty);
        }
        let moments = self.moments(n, input, adds);
        let factor = Factor::new(pool, moments.own, n, self.settings.damping)?;
        if self.settings.correction > 0.0 {
            let mut correction = moments
                .residual
                .unwrap_or_else(|| vec![0.0; site.weights.len()]);
            add_product(
                pool,
                1.0,
                (&site.weights, n),
                (&moments.drift, n),
                n,
                (&mut correction, n),
            );
            solve(pool, &factor, &mut correction);
            for (w, c) in site.weights.iter_mut().zip(correction) {
                *w += self.settings.correction * c;
            }
        }
        let mut first = 0;
        let mut out = Vec::new();
        for (name, rows) in &site.parts {
            let part = &mut site.weights[first * n..(first + rows) * n];
            let mut bytes = Vec::new();
            rounding::round(
                pool,
                ty(name),
                &factor,
                part,
                self.settings.passes,
                &mut bytes,
            )?;
            out.push((name.clone(), bytes));
            first += rows;
        }
        Ok(out)
    }

    /// What the tokens say of a site with `n` inputs.
    fn moments(&self, n: usize, input: Input, adds: bool) -> Moments {
        let (pool, hidden) = (self.shape.pool, self.shape.config.hidden_size);
        let corrects = self.exact.is_some();
        let mut moments = Moments {
            own: vec![0.0; n * n],
            drift: vec![0.0; if corrects { n * n } else { 0 }],
            residual: (adds && corrects).then(|| vec![0.0; hidden * n]),
        };
        for chunk in self.shape.chunks(self.n_tokens) {
            let mut x = self.rounded.input(&self.shape, input, chunk.clone());
            let shares = shares(&x, n);
            if let Some(exact) = &self.exact {
                let mut drift = exact.input(&self.shape, input, chunk.clone());
                drift.iter_mut().zip(&x).for_each(|(d, x)| *d -= x);
                scale(&mut x, n, &shares);
                scale(&mut drift, n, &shares);
                add_moments(pool, &x, &drift, n, &mut moments.drift);
            } else {
                scale(&mut x, n, &shares);
            }
            add_squares(pool, &x, n, &mut moments.own);
            if let (Some(residual), Some(exact)) = (&mut moments.residual, &self.exact) {
                let at = chunk.start * hidden..chunk.end * hidden;
                let mut difference: Vec<f32> = (exact.hidden[at.clone()].iter())
                    .zip(&self.rounded.hidden[at])
                    .map(|(exact, rounded)| exact - rounded)
                    .collect();
                scale(&mut difference, hidden, &shares);
                add_moments(pool, &difference, &x, n, residual);
            }
        }
        mirror(&mut moments.own, n);
        let mean = 1.0 / self.n_tokens as f32;
        let all = [&mut moments.own, &mut moments.drift];
        for sum in all.into_iter().chain(&mut moments.residual) {
            sum.iter_mut().for_each(|sum| *sum *= mean);
        }
        moments
    }
}

/// How much larger than most a token's input may count, in squares.
const CAP: f32 = 4.0;

/// What each token's input, a row of `x` [tokens, n], is multiplied with so that none counts more than [`CAP`] times the
/// median. A text's first token is a thousand times as large as the others in some models (attention sinks, arXiv
/// 2402.17762), and rounding would be for it alone.
fn shares(x: &[f32], n: usize) -> Vec<f32> {
    let squares: Vec<f32> = x
        .chunks_exact(n)
        .map(|row| row.iter().map(|x| x * x).sum())
        .collect();
    let mut sorted = squares.clone();
    sorted.sort_by(f32::total_cmp);
    let most = CAP * sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    squares
        .into_iter()
        .map(|square| {
            if square > most {
                (most / square).sqrt()
            } else {
                1.0
            }
        })
        .collect()
}

/// Multiplies the rows of `x` [tokens, n].
fn scale(x: &mut [f32], n: usize, shares: &[f32]) {
    for (row, share) in x.chunks_exact_mut(n).zip(shares) {
        if *share != 1.0 {
            row.iter_mut().for_each(|x| *x *= share);
        }
    }
}

/// Means over tokens; x is the site's input in the rounded model.
struct Moments {
    /// `x xᵀ` [n, n].
    own: Vec<f32>,
    /// `x (exact x - x)ᵀ` [n, n].
    drift: Vec<f32>,
    /// `(exact hidden - hidden) xᵀ` [hidden_size, n].
    residual: Option<Vec<f32>>,
}
