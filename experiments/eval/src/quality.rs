//! How well a file predicts held-out rows, as the edge engine runs it.
//!
//! In: rows of token ids, each of inputs and the token after the last (padding left out).
//! Out: the mean negative log-likelihood of the targets, in nats a token: the same rows
//! and the same average as training's validation loss, so that the two compare.

use retort_engine::decoder::Engine;
use retort_engine::perplexity::negative_log_likelihood;

/// The mean loss of `engine` over `rows`, in nats a token; NaN if there is none.
///
/// # Errors
/// A row that is longer than the model's context, or an id outside its vocabulary.
pub fn loss<'a>(
    engine: &Engine,
    rows: impl IntoIterator<Item = &'a [u32]>,
) -> Result<f64, retort_format::Error> {
    let vocabulary = engine.config().vocab_size;
    let (mut sum, mut tokens) = (0.0, 0usize);
    for row in rows {
        let inputs = &row[..row.len().saturating_sub(1)];
        let mut session = engine.session(inputs.len().max(1))?;
        session.forward_all(inputs, 0, |first, logits| {
            for (row_logits, &target) in logits.chunks_exact(vocabulary).zip(&row[first + 1..]) {
                sum += negative_log_likelihood(row_logits, target);
            }
        })?;
        tokens += inputs.len();
    }
    Ok(sum / tokens as f64)
}
