//! How far a quantized model is from the one it was made of.
//!
//! In: both models and a text; out: over the windows and tokens that [`crate::perplexity`] scores, the mean
//! Kullback–Leibler divergence D(parent ‖ model) in nats a token, how often both think the same token most likely,
//! and the logarithm of the ratio of perplexities, each with its standard error. The figures are those of llama.cpp's
//! `llama-perplexity --kl-divergence`. Both models run side by side: the layers' answers of one window are kept
//! (`[context, hidden_size]`), and logits are made a few rows at a time, so nothing grows with the text.

use crate::model::Model;
use crate::perplexity::{Sum, windows};
use retort_format::{Error, Result};
use serde_json::{Value, json};

/// Tokens whose logits are there at once.
const ROWS: usize = 32;

/// A model beside its parent.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// Perplexity of the model.
    pub perplexity: f64,
    /// Perplexity of the parent on the same tokens.
    pub parent_perplexity: f64,
    /// ln(perplexity / parent_perplexity).
    pub ln_perplexity_ratio: f64,
    /// Its standard error, which is far below either perplexity's: the tokens are the same.
    pub ln_perplexity_ratio_error: f64,
    /// Mean of D(parent ‖ model), nats a token.
    pub mean_kl_divergence: f64,
    /// Its standard error.
    pub mean_kl_divergence_error: f64,
    /// The share of tokens at which both find the same token most likely.
    pub top1_agreement: f64,
    /// Tokens scored.
    pub tokens: usize,
}

impl Divergence {
    /// How many tokens were scored, then a line a figure.
    pub fn table(&self) -> String {
        format!(
            "{} tokens\n\
             perplexity        {:10.4}   parent {:.4}\n\
             ln(ratio)         {:10.5} ± {:.5}\n\
             KL divergence     {:10.5} ± {:.5} nats a token\n\
             same top token    {:10.2} %\n",
            self.tokens,
            self.perplexity,
            self.parent_perplexity,
            self.ln_perplexity_ratio,
            self.ln_perplexity_ratio_error,
            self.mean_kl_divergence,
            self.mean_kl_divergence_error,
            self.top1_agreement * 100.0,
        )
    }

    /// The figures by their fields' names.
    pub fn json(&self) -> Value {
        json!({
            "perplexity": self.perplexity,
            "parent_perplexity": self.parent_perplexity,
            "ln_perplexity_ratio": self.ln_perplexity_ratio,
            "ln_perplexity_ratio_error": self.ln_perplexity_ratio_error,
            "mean_kl_divergence": self.mean_kl_divergence,
            "mean_kl_divergence_error": self.mean_kl_divergence_error,
            "top1_agreement": self.top1_agreement,
            "tokens": self.tokens,
        })
    }
}

/// Compares each of `models` with `parent` on `text` in windows of `context` tokens, the first `limit` of them
/// if that is given; `progress` gets windows done and
/// windows in all. The parent runs once, however many models there are.
///
/// # Errors
///
/// [`Error::Argument`] if the text is shorter than a window, a context is too short for it, or a model takes the text
/// for other tokens than the parent does.
pub fn divergence(
    parent: &Model,
    models: &[Model],
    text: &str,
    context: usize,
    limit: Option<usize>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Divergence>> {
    let (tokens, n_windows) = windows(parent, text, context, limit)?;
    let vocab_size = parent.engine.config().vocab_size;
    for model in models {
        let alike = model.engine.config().vocab_size == vocab_size;
        if !alike || windows(model, text, context, limit)?.0 != tokens {
            return Err(Error::Argument(format!(
                "{} and {} have different vocabularies; compare a file with the one it was made of",
                model.engine.gguf().path().display(),
                parent.engine.gguf().path().display()
            )));
        }
    }
    let mut parent = ComparedModel::new(parent, context)?;
    let mut sides: Vec<_> = (models.iter())
        .map(|model| ComparedModel::new(model, context))
        .collect::<Result<_>>()?;
    let mut sums = vec![Sums::default(); models.len()];
    for (index, window) in tokens.chunks_exact(context).enumerate() {
        // the last token predicts nothing inside the window
        let inputs = &window[..context - 1];
        parent.take_in(inputs)?;
        for side in &mut sides {
            side.take_in(inputs)?;
        }
        for first in (context / 2..inputs.len()).step_by(ROWS) {
            let rows = first..(first + ROWS).min(inputs.len());
            let theirs = parent.logits(rows.clone())?;
            for (side, sums) in sides.iter().zip(&mut sums) {
                let ours = side.logits(rows.clone())?;
                let mut tokens = vec![TokenComparison::default(); rows.len()];
                side.model
                    .engine
                    .pool()
                    .rows(&mut tokens, 1, 1, |row, token| {
                        let at = row * vocab_size..(row + 1) * vocab_size;
                        token[0] = TokenComparison::new(
                            &theirs[at.clone()],
                            &ours[at],
                            window[first + row + 1],
                        );
                    });
                tokens.iter().for_each(|token| sums.add(token));
            }
        }
        progress(index + 1, n_windows);
    }
    Ok(sums.iter().map(Sums::result).collect())
}

/// One of the models, and what its layers answer for a window.
struct ComparedModel<'m> {
    model: &'m Model,
    session: crate::decoder::Session<'m>,
    hidden: Vec<f32>,
}

impl<'m> ComparedModel<'m> {
    fn new(model: &'m Model, context: usize) -> Result<Self> {
        Ok(Self {
            model,
            session: model.engine.session(context)?,
            hidden: Vec::new(),
        })
    }

    fn take_in(&mut self, tokens: &[u32]) -> Result<()> {
        self.session.truncate(0);
        self.hidden.clear();
        self.session.hidden(tokens, &mut self.hidden)
    }

    fn logits(&self, rows: std::ops::Range<usize>) -> Result<Vec<f32>> {
        let width = self.model.engine.config().hidden_size;
        (self.model.engine).logits(&self.hidden[rows.start * width..rows.end * width])
    }
}

/// What both models say where one token was due.
#[derive(Clone, Copy, Default)]
struct TokenComparison {
    parent_nll: f64,
    nll: f64,
    kl: f64,
    same_top: bool,
}

impl TokenComparison {
    /// `p` are the parent's logits, `q` the model's.
    fn new(p: &[f32], q: &[f32], target: u32) -> Self {
        let ((p_top, p_log), (q_top, q_log)) = (normaliser(p), normaliser(q));
        let kl = p.iter().zip(q).map(|(&p, &q)| {
            let log = f64::from(p) - p_log;
            log.exp() * (log - (f64::from(q) - q_log))
        });
        let at = target as usize;
        Self {
            parent_nll: p_log - f64::from(p[at]),
            nll: q_log - f64::from(q[at]),
            kl: kl.sum(),
            same_top: p_top == q_top,
        }
    }
}

/// The index of the largest logit, and ln Σ exp.
fn normaliser(logits: &[f32]) -> (usize, f64) {
    let larger = |best: (usize, f32), next: (usize, f32)| if next.1 > best.1 { next } else { best };
    let indexed = logits.iter().copied().enumerate();
    let (top, max) = indexed.fold((0, f32::NEG_INFINITY), larger);
    let sum: f64 = logits.iter().map(|l| f64::from((l - max).exp())).sum();
    (top, f64::from(max) + sum.ln())
}

#[derive(Clone, Default)]
struct Sums {
    parent_nll: Sum,
    nll: Sum,
    ratio: Sum,
    kl: Sum,
    same_top: Sum,
}

impl Sums {
    fn add(&mut self, token: &TokenComparison) {
        self.parent_nll.add(token.parent_nll);
        self.nll.add(token.nll);
        self.ratio.add(token.nll - token.parent_nll);
        self.kl.add(token.kl);
        self.same_top.add(f64::from(u8::from(token.same_top)));
    }

    fn result(&self) -> Divergence {
        Divergence {
            perplexity: self.nll.mean().exp(),
            parent_perplexity: self.parent_nll.mean().exp(),
            ln_perplexity_ratio: self.ratio.mean(),
            ln_perplexity_ratio_error: self.ratio.standard_error_of_mean(),
            mean_kl_divergence: self.kl.mean(),
            mean_kl_divergence_error: self.kl.standard_error_of_mean(),
            top1_agreement: self.same_top.mean(),
            tokens: self.kl.n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_by_hand() {
        // softmax (1/2, 1/2) against (3/4, 1/4)
        let (p, q) = ([0.0, 0.0], [3f32.ln(), 0.0]);
        let token = TokenComparison::new(&p, &q, 1);
        let want = 0.5 * (0.5f64 / 0.75).ln() + 0.5 * (0.5f64 / 0.25).ln();
        assert!((token.kl - want).abs() < 1e-7, "{}", token.kl);
        assert!((token.parent_nll - 2f64.ln()).abs() < 1e-7);
        assert!((token.nll - 4f64.ln()).abs() < 1e-7);
        assert!(token.same_top);
        assert!(!TokenComparison::new(&p, &[0.0, 1.0], 0).same_top);
        assert_eq!(TokenComparison::new(&q, &q, 0).kl, 0.0);
    }
}
