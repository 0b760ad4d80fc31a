//! A bound on how much one token's input may count.

/// How much larger than most a token's input may count, in squares.
const CAP: f32 = 4.0;

/// Multiplies each token's input, a row of `x` [tokens, n], so that none counts more than [`CAP`] times the median. A
/// text's first token is a thousand times as large as the others in some models (attention sinks, arXiv 2402.17762), and
/// rounding would be for it alone.
pub(super) fn cap(x: &mut [f32], n: usize) {
    let squares: Vec<f32> = x
        .chunks_exact(n)
        .map(|row| row.iter().map(|x| x * x).sum())
        .collect();
    let mut sorted = squares.clone();
    sorted.sort_by(f32::total_cmp);
    let most = CAP * sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    for (row, square) in x.chunks_exact_mut(n).zip(squares) {
        if square > most {
            let share = (most / square).sqrt();
            row.iter_mut().for_each(|x| *x *= share);
        }
    }
}
