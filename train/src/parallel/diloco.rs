//! DiLoCo (Douillard et al., arXiv 2311.08105, algorithm 1): for ranks between which little can be sent.
//!
//! Each rank trains on its share of the rows by itself, with the recipe's optimizer. Every `every` steps all meet:
//! the mean over the ranks of what each has moved by, Δ = start − local, is one gradient of an outer step with
//! Nesterov's momentum, after which all have the same weights again:
//!
//! ```text
//! m ← μ m + Δ        start ← start − lr (Δ + μ m)
//! ```
//!
//! Each rank adds up one slice of Δ and sends the mean of it to the others; with `int8` both travel in eight bits
//! ([`int8`](super::int8)), a quarter of the bytes. All ranks apply the same mean, so that their weights are equal
//! bit for bit.

use std::sync::Arc;

use retort_model::Decoder;
use serde::{Deserialize, Serialize};

use super::int8;
use super::numbers::{self, Numbers, Trained};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::world::World;

/// `[train.diloco]`: the ranks train apart and meet now and then.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DilocoConfig {
    /// Steps from one meeting to the next. Evaluations and checkpoints wait for one.
    #[serde(default = "default_every")]
    pub every: u64,
    /// The outer step's learning rate.
    #[serde(default = "default_lr")]
    pub lr: f64,
    /// Its momentum.
    #[serde(default = "default_momentum")]
    pub momentum: f64,
    /// Whether what is sent is rounded to eight bits.
    #[serde(default)]
    pub int8: bool,
}

fn default_every() -> u64 {
    50
}
fn default_lr() -> f64 {
    0.7
}
fn default_momentum() -> f64 {
    0.9
}

/// The outer optimizer.
pub struct Diloco {
    world: Arc<World>,
    config: DilocoConfig,
    tensors: Vec<Trained>,
    /// The weights at the last meeting, in the model's order.
    start: Vec<f32>,
    momentum: Vec<f32>,
    /// The steps of this rank since, and the tokens of each.
    steps: Vec<(Metrics, u64)>,
}

impl Diloco {
    /// Of ranks that all have `model`; `momentum` is that of an earlier run, as [`momentum`](Self::momentum)
    /// gave it.
    ///
    /// # Errors
    /// [`Error::World`]: the momentum is of another model.
    pub fn new(
        world: Arc<World>,
        config: DilocoConfig,
        model: &Decoder,
        momentum: Option<&[u8]>,
    ) -> Result<Self> {
        let tensors = numbers::trained(model);
        let start = flat(&tensors, model);
        let momentum = match momentum {
            Some(bytes) => bytemuck::pod_collect_to_vec(bytes),
            None => vec![0.0; start.len()],
        };
        if momentum.len() != start.len() {
            return Err(Error::World(
                "the checkpoint's outer momentum is of another model".into(),
            ));
        }
        Ok(Self {
            world,
            config,
            tensors,
            start,
            momentum,
            steps: Vec::new(),
        })
    }

    /// Whether all meet after `step` steps, which may be the `last` of the run.
    pub fn meet_after(&self, step: u64, last: bool) -> bool {
        step.is_multiple_of(self.config.every) || last
    }

    /// The outer step: this rank's `model` becomes everybody's.
    pub fn meet(&mut self, model: Decoder) -> Decoder {
        let local = flat(&self.tensors, &model);
        let moved: Vec<f32> = self.start.iter().zip(&local).map(|(s, l)| s - l).collect();
        let mean = mean(&self.world, moved, self.config.int8);
        nesterov(&self.config, &mut self.start, &mut self.momentum, &mean);
        let mut rest = &self.start[..];
        let mut all = Numbers::new();
        for tensor in &self.tensors {
            let (these, others) = rest.split_at(tensor.elements);
            all.insert(tensor.id, these.to_vec());
            rest = others;
        }
        numbers::with_weights(model, all)
    }

    /// Takes note of a step of this rank with so many tokens. Answers what to show: as if the others' were like it.
    pub fn note(&mut self, metrics: Metrics, tokens: u64) -> Metrics {
        let others = self.world.size() as u64 - 1;
        let before: u64 = self.steps.iter().map(|(_, tokens)| tokens).sum();
        let mut shown = metrics.clone();
        shown.tokens += before + (before + tokens) * others;
        shown.tokens_per_second *= 1.0 + others as f64;
        self.steps.push((metrics, tokens));
        shown
    }

    /// The steps since the ranks last met, when `tokens` had been trained on, as those of all together: losses are
    /// means over the tokens, norms the largest.
    pub fn together(&mut self, mut tokens: u64) -> Vec<Metrics> {
        let steps = std::mem::take(&mut self.steps);
        let each = steps.iter().flat_map(|(m, tokens)| {
            let counts = [*tokens as f64, m.skipped as f64];
            [counts[0], counts[1], m.loss, m.grad_norm]
        });
        let ranks = self.world.gather_numbers(&each.collect::<Vec<_>>());
        let mut together = Vec::new();
        for (i, (mut metrics, mine)) in steps.into_iter().enumerate() {
            let (mut all, mut skipped, mut loss, mut norm) = (0.0, 0.0, 0.0, 0f64);
            for rank in &ranks {
                let [t, s, l, n] =
                    [0, 1, 2, 3].map(|k| rank.get(4 * i + k).copied().unwrap_or(f64::NAN));
                all += t;
                skipped += s;
                loss += l * t;
                norm = if n <= norm { norm } else { n };
            }
            tokens += all as u64;
            metrics.tokens = tokens;
            metrics.skipped = skipped as u64;
            metrics.loss = loss / all;
            metrics.grad_norm = norm;
            metrics.tokens_per_second *= all / mine.max(1) as f64;
            together.push(metrics);
        }
        together
    }

    /// The momentum, as bytes for a checkpoint.
    pub fn momentum(&self) -> Vec<u8> {
        bytemuck::cast_slice(&self.momentum).to_vec()
    }
}

fn flat(tensors: &[Trained], model: &Decoder) -> Vec<f32> {
    let mut weights = numbers::weights(model, |_| true);
    let each = tensors.iter().filter_map(|t| weights.remove(&t.id));
    each.collect::<Vec<_>>().concat()
}

/// The mean of all ranks' `values`, the same bits on all.
fn mean(world: &World, values: Vec<f32>, int8: bool) -> Vec<f32> {
    let (n, ranks) = (values.len(), world.size());
    // Whole blocks, so that a block's scale is of one slice.
    let slice = n.div_ceil(ranks).next_multiple_of(int8::BLOCK);
    let range = |rank: usize| (rank * slice).min(n)..((rank + 1) * slice).min(n);
    let mine = range(world.rank()).len();
    let slices = (0..ranks).map(|rank| &values[range(rank)]);
    let mut sum = match int8 {
        false => world.reduce(slices.map(<[f32]>::to_vec).collect()).wait(),
        true => {
            let mut sum = vec![0.0; mine];
            let parts = world.trade(slices.map(int8::encode).collect());
            parts
                .iter()
                .for_each(|part| int8::add_decoded(part, &mut sum));
            sum
        }
    };
    sum.iter_mut().for_each(|x| *x /= ranks as f32);
    let bytes = match int8 {
        true => int8::encode(&sum),
        false => bytemuck::cast_slice(&sum).to_vec(),
    };
    let sizes = (0..ranks).map(|rank| match int8 {
        true => int8::encoded_len(range(rank).len()),
        false => 4 * range(rank).len(),
    });
    let all = world.spread(bytes, sizes.collect()).wait();
    let mut mean = vec![0.0; n];
    for (rank, bytes) in all.iter().enumerate() {
        match int8 {
            true => int8::add_decoded(bytes, &mut mean[range(rank)]),
            false => {
                mean[range(rank)].copy_from_slice(&bytemuck::pod_collect_to_vec::<u8, f32>(bytes))
            }
        }
    }
    mean
}

/// One outer step for `weights`, whose gradient is `delta`.
fn nesterov(config: &DilocoConfig, weights: &mut [f32], momentum: &mut [f32], delta: &[f32]) {
    let (lr, mu) = (config.lr as f32, config.momentum as f32);
    for ((w, m), d) in weights.iter_mut().zip(momentum).zip(delta) {
        *m = mu * *m + d;
        *w -= lr * (d + mu * *m);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::threads::ranks;

    const CONFIG: DilocoConfig = DilocoConfig {
        every: 2,
        lr: 0.7,
        momentum: 0.9,
        int8: false,
    };

    #[test]
    fn the_outer_step_is_nesterovs() {
        let (mut w, mut m) = ([1.0f32, -2.0], [0.0f32; 2]);
        let (mut exact_w, mut exact_m) = ([1.0f64, -2.0], [0.0f64; 2]);
        for delta in [[0.5, -0.25], [0.125, 1.0], [-0.5, 0.0]] {
            nesterov(&CONFIG, &mut w, &mut m, &delta);
            for (i, d) in delta.into_iter().map(f64::from).enumerate() {
                exact_m[i] = 0.9 * exact_m[i] + d;
                exact_w[i] -= 0.7 * (d + 0.9 * exact_m[i]);
                assert!((f64::from(w[i]) - exact_w[i]).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn the_mean_is_that_of_all_ranks_and_in_eight_bits_nearly() {
        let n = 5 * int8::BLOCK + 3;
        let value = |rank: usize, i: usize| ((i * 31 + rank * 17) % 101) as f32 / 50.0 - 1.0;
        for int8 in [false, true] {
            let found = ranks(3, |world| {
                let mine = (0..n).map(|i| value(world.rank(), i)).collect();
                (mean(&world, mine, int8), world.sent())
            });
            for (mean, _) in &found {
                assert_eq!(*mean, found[0].0);
                // Half a scale each way.
                let bound = if int8 { 1.0 / 127.0 * 1.001 } else { 1e-6 };
                for (i, x) in mean.iter().enumerate() {
                    let exact = (value(0, i) + value(1, i) + value(2, i)) / 3.0;
                    assert!((x - exact).abs() <= bound, "{i}: {x} {exact}");
                }
            }
            let sent: u64 = found.iter().map(|(_, sent)| sent).sum();
            let bytes = if int8 { int8::encoded_len(n) } else { 4 * n };
            // Slices are of whole blocks here, and equal on the way.
            let more = sent - 4 * bytes as u64;
            assert!(more < 2 * 4 * int8::BLOCK as u64, "{more}");
        }
    }

    #[test]
    fn ranks_that_went_apart_have_one_model_after_they_met() {
        let found = ranks(2, |world| {
            let model = crate::optimizer::tests::model();
            let mut diloco = Diloco::new(world.clone(), CONFIG, &model, None).unwrap();
            let mut moved = numbers::weights(&model, |_| true);
            let by = [0.25, 0.75][world.rank()];
            moved.values_mut().flatten().for_each(|x| *x -= by);
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
            assert!(!diloco.meet_after(1, false) && diloco.meet_after(1, true));
            assert!(diloco.meet_after(2, false));
            let shown = [
                diloco.note(step(1, 1.0), 10),
                diloco.note(step(2, by), [30, 10][world.rank()]),
            ];
            assert_eq!((shown[0].tokens, shown[0].tokens_per_second), (110, 10.0));
            let before = flat(&diloco.tensors, &model);
            let model = diloco.meet(numbers::with_weights(model, moved));
            let steps = diloco.together(100);
            let after = flat(&diloco.tensors, &model);
            for (b, a) in before.iter().zip(&after) {
                assert!((b - 0.7 * (0.5 + 0.9 * 0.5) - a).abs() < 1e-5);
            }
            assert_eq!(
                (steps[0].loss, steps[0].tokens, steps[0].skipped),
                (1.0, 120, 2)
            );
            assert_eq!(
                (steps[1].loss, steps[1].tokens, steps[1].grad_norm),
                (0.375, 160, 0.75)
            );
            (after, diloco.momentum())
        });
        assert_eq!(found[0], found[1]);
    }
}
