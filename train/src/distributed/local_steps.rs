//! The steps of ranks that train apart, as `metrics.jsonl` has them: one line a step, for all ranks together.

use retort_comm::ProcessGroup;

use crate::metrics::Metrics;

/// The steps of this rank since the ranks last synchronized.
#[derive(Default)]
pub struct LocalSteps(Vec<LocalStep>);

struct LocalStep {
    metrics: Metrics,
    /// Tokens of the step on this rank.
    tokens: u64,
}

impl LocalSteps {
    /// Keeps a step of `tokens` tokens. Returns what to show meanwhile: as if every rank's steps were like this one's.
    pub fn push(&mut self, metrics: Metrics, tokens: u64, ranks: usize) -> Metrics {
        let others = ranks as u64 - 1;
        let before: u64 = self.0.iter().map(|step| step.tokens).sum();
        let mut shown = metrics.clone();
        shown.tokens += before + (before + tokens) * others;
        shown.tokens_per_second *= 1.0 + others as f64;
        self.0.push(LocalStep { metrics, tokens });
        shown
    }

    /// Takes the steps, each for all ranks together, where `tokens` had been trained on before them. Losses are means
    /// over the tokens, norms the largest.
    pub fn take_merged(&mut self, group: &ProcessGroup, mut tokens: u64) -> Vec<Metrics> {
        let steps = std::mem::take(&mut self.0);
        let mine = steps.iter().flat_map(|step| {
            let m = &step.metrics;
            [step.tokens as f64, m.skipped as f64, m.loss, m.grad_norm]
        });
        let ranks = group.all_gather_f64(&mine.collect::<Vec<_>>());
        let mut merged = Vec::new();
        for (i, step) in steps.into_iter().enumerate() {
            let mut metrics = step.metrics;
            let (mut all, mut skipped, mut loss, mut norm) = (0.0, 0.0, 0.0, 0f64);
            for rank in &ranks {
                let [t, s, l, n] =
                    [0, 1, 2, 3].map(|k| rank.get(4 * i + k).copied().unwrap_or(f64::NAN));
                all += t;
                skipped += s;
                loss += l * t;
                // Not `max`, which would hide NaN.
                norm = if n <= norm { norm } else { n };
            }
            tokens += all as u64;
            metrics.tokens = tokens;
            metrics.skipped = skipped as u64;
            metrics.loss = loss / all;
            metrics.grad_norm = norm;
            metrics.tokens_per_second *= all / step.tokens.max(1) as f64;
            merged.push(metrics);
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_two_ranks_are_merged_by_their_tokens() {
        retort_comm::threads::run(2, |group| {
            let by = [0.25f32, 0.75][group.rank()];
            let step = |step, loss: f32| Metrics {
                step,
                tokens: 100,
                loss: f64::from(loss),
                lr: 0.1,
                grad_norm: f64::from(by),
                skipped: 1,
                tokens_per_second: 5.0,
                seconds: 1.0,
                data_seconds: 0.0,
                sent_bytes: None,
                parts: Default::default(),
            };
            let mut steps = LocalSteps::default();
            let shown = steps.push(step(1, 1.0), 10, 2);
            assert_eq!((shown.tokens, shown.tokens_per_second), (110, 10.0));
            steps.push(step(2, by), [30, 10][group.rank()], 2);
            let merged = steps.take_merged(&group, 100);
            let figures = |m: &Metrics| (m.loss, m.tokens, m.skipped, m.grad_norm);
            assert_eq!(figures(&merged[0]), (1.0, 120, 2, 0.75));
            assert_eq!(figures(&merged[1]), (0.375, 160, 2, 0.75));
        });
    }
}
