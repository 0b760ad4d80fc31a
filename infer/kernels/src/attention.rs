//! Attention of a few queries over sixty-four positions at a time, by the active kernels
//! (`running_softmax.rs` has the shapes).

pub use crate::running_softmax::{STEP, State, Step, TILE, TILES, width};
use crate::table::current;

impl State {
    /// Takes in 64 positions with the active kernels.
    ///
    /// # Panics
    ///
    /// If the parts of `step` do not have the sizes given above.
    pub fn step(&mut self, step: &Step) {
        self.check(step);
        // SAFETY: the current table's features were detected; the function checks what it takes.
        unsafe { (current().attend)(step, self) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use retort_test_kit::Random;

    use super::*;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        let values = Random::new(seed).f32s(n).into_iter();
        values.map(|value| value * 2.0).collect()
    }

    /// Every table against a softmax in f64, over two steps cut and merged or not; and against each other, bit by bit.
    #[test]
    fn attention_agrees_with_f64_and_between_tables() {
        let mut references = Vec::new();
        for (k, (n, hd)) in Kernels::available()
            .into_iter()
            .flat_map(|k| [(1, 16), (3, 20), (7, 64), (9, 80), (16, 128)].map(|s| (k, s)))
        {
            let width = width(hd);
            let queries = values(n * hd, 1);
            let (keys, stored) = (values(2 * STEP * hd, 2), values(2 * STEP * width, 3));
            let seen: Vec<usize> = (0..n).map(|i| STEP + 1 + (i * 13) % STEP).collect();
            let mut state = State::default();
            let mut second = State::default();
            state.reset(n, hd);
            second.reset(n, hd);
            for at in 0..2 {
                let seen: Vec<_> = seen
                    .iter()
                    .map(|s| s.saturating_sub(at * STEP).min(STEP))
                    .collect();
                let step = Step {
                    queries: &queries,
                    head_dim: hd,
                    keys: &keys[at * STEP * hd..][..STEP * hd],
                    values: &stored[at * STEP * width..][..STEP * width],
                    seen: &seen,
                };
                // SAFETY: the table is available, so its features were detected.
                unsafe {
                    (k.attend)(
                        &step,
                        if n % 2 == 0 || at == 0 {
                            &mut state
                        } else {
                            &mut second
                        },
                    )
                };
            }
            state.merge(&second);
            // the same bits as the scalar table, which comes first
            let found = references.iter().find(|(shape, _)| *shape == (n, hd));
            match found {
                Some((_, scalar)) => assert_eq!(&state.values, scalar, "{} {n} {hd}", k.name),
                None => references.push(((n, hd), state.values.clone())),
            }
            for i in 0..n {
                let score = |p: usize| -> f64 {
                    let key = |d: usize| keys[(p / TILE * hd + d) * TILE + p % TILE];
                    (0..hd)
                        .map(|d| f64::from(queries[i * hd + d]) * f64::from(key(d)))
                        .sum()
                };
                let scores: Vec<f64> = (0..seen[i]).map(score).collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                let mut out = vec![0.0; hd];
                state.output(i, &mut out);
                for d in 0..hd {
                    let want: f64 = (scores.iter().enumerate())
                        .map(|(p, s)| {
                            (s - largest).exp() / total * f64::from(stored[p * width + d])
                        })
                        .sum();
                    assert!(
                        (f64::from(out[d]) - want).abs() < 3e-5,
                        "{} {n} {hd}",
                        k.name
                    );
                }
            }
        }
    }
}
