//! Perplexity of a text, over the same windows as llama.cpp's llama-perplexity.
//!
//! The text is tokenized whole and cut into windows of `context` tokens without overlap, a rest
//! shorter than a window left out. In each window the second half is scored: the tokens at
//! positions context/2 + 1 to context - 1, each given all that stand before it in the window. If
//! the model was trained with BOS before every text, BOS replaces each window's first token.
//! The result is exp of the mean negative log likelihood, in nats per token.

use crate::decoder::Session;
use crate::model::Model;
use retort_format::{Error, Result};
use retort_kernels::ops;

/// The perplexity of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Perplexity {
    /// exp of the mean negative log likelihood.
    pub perplexity: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Tokens scored.
    pub tokens: usize,
    /// Windows scored.
    pub windows: usize,
}

/// Scores `text` in windows of `context` tokens, the first `limit` of them if that is given;
/// `progress` gets windows done, windows in all and the perplexity so far.
pub fn perplexity(
    model: &Model,
    text: &str,
    context: usize,
    limit: Option<usize>,
    mut progress: impl FnMut(usize, usize, f64),
) -> Result<Perplexity> {
    let (tokens, windows) = windows(model, text, context, limit)?;
    let mut session = model.engine.session(context)?;
    let mut sum = Sum::default();
    for (index, window) in tokens.chunks_exact(context).enumerate() {
        session.truncate(0);
        score_window(&mut session, window, &mut sum)?;
        progress(index + 1, windows, sum.mean().exp());
    }
    let perplexity = sum.mean().exp();
    Ok(Perplexity {
        perplexity,
        standard_error: perplexity * sum.standard_error_of_mean(),
        tokens: sum.n,
        windows,
    })
}

/// The ids of `text` in windows of `context`, one after the other, and how many windows there are: `limit` at most.
pub(crate) fn windows(
    model: &Model,
    text: &str,
    context: usize,
    limit: Option<usize>,
) -> Result<(Vec<u32>, usize)> {
    let trained = model.engine.config().context_length;
    if context < 4 || context > trained {
        return Err(Error::Argument(format!(
            "the context must be between 4 and the model's {trained}, not {context}"
        )));
    }
    let path = model.engine.gguf().path();
    let bos = model.tokenizer.bos().filter(|_| model.tokenizer.add_bos());
    let mut tokens: Vec<u32> = bos.into_iter().collect();
    let encoded = model.tokenizer.encode(text, false);
    tokens.extend(encoded.map_err(|problem| Error::tokenizer(path, problem))?);
    let windows = tokens.len() / context;
    if windows == 0 {
        return Err(Error::Argument(format!(
            "the text has {} tokens, less than one window of {context}; \
             take a longer text or a smaller context",
            tokens.len()
        )));
    }
    let windows = limit.map_or(windows, |limit| windows.min(limit.max(1)));
    tokens.truncate(windows * context);
    if let Some(bos) = bos {
        for window in tokens.chunks_exact_mut(context) {
            window[0] = bos;
        }
    }
    Ok((tokens, windows))
}

/// Adds the second half of `window` to `sum`.
fn score_window(session: &mut Session<'_>, window: &[u32], sum: &mut Sum) -> Result<()> {
    let engine = session.engine();
    let (vocab_size, pool) = (engine.config().vocab_size, engine.pool());
    // The last token predicts nothing inside the window: it need not go through the model.
    let inputs = &window[..window.len() - 1];
    session.forward_all(inputs, window.len() / 2, |first, rows| {
        let mut nlls = vec![0.0; rows.len() / vocab_size];
        pool.rows(&mut nlls, 1, 1, |row, nll| {
            let logits = &rows[row * vocab_size..(row + 1) * vocab_size];
            nll[0] = negative_log_likelihood(logits, window[first + 1 + row]);
        });
        nlls.into_iter().for_each(|nll| sum.add(nll));
    })
}

/// Running sum of one number a token, such as negative log likelihoods.
#[derive(Clone, Default)]
pub(crate) struct Sum {
    pub(crate) n: usize,
    total: f64,
    squares: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, value: f64) {
        self.n += 1;
        self.total += value;
        self.squares += value * value;
    }

    pub(crate) fn mean(&self) -> f64 {
        self.total / self.n as f64
    }

    pub(crate) fn standard_error_of_mean(&self) -> f64 {
        let mean = self.mean();
        let variance = (self.squares / self.n as f64 - mean * mean).max(0.0);
        (variance / (self.n as f64 - 1.0).max(1.0)).sqrt()
    }
}

/// The negative log likelihood of `target` under the softmax of `logits`, in nats; NaN for a target
/// outside them.
pub fn negative_log_likelihood(logits: &[f32], target: u32) -> f64 {
    let Some(logit) = logits.get(target as usize) else {
        return f64::NAN;
    };
    ops::log_sum_exp(logits) - f64::from(*logit)
}
