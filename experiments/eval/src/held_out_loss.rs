//! The loss of a GGUF file on held-out rows, as the edge engine runs it.
//!
//! In: rows of token ids, inputs and the token after the last, without padding. Out: the mean
//! negative log-likelihood of the targets in nats a token. Rows and average are those of training's
//! validation loss, so that the two compare.

use retort_engine::decoder::Engine;
use retort_engine::perplexity::negative_log_likelihood;

/// The mean loss of `engine` over `rows`, in nats a token; NaN without rows.
///
/// # Errors
///
/// A row that is longer than the model's context, or an id outside its vocabulary.
pub fn held_out_loss<'a>(
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
