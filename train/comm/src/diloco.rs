//! DiLoCo (Douillard et al., arXiv 2311.08105, algorithm 1): for ranks between which little can be sent.
//!
//! Each rank trains on its share of the rows by itself, with the recipe's optimizer. Every `every` steps the ranks
//! synchronize: the mean over the ranks of Δ = start − local is the gradient of an outer step with Nesterov's
//! momentum, after which all ranks have the same weights again:
//!
//! ```text
//! m ← μ m + Δ        start ← start − lr (Δ + μ m)
//! ```
//!
//! Each rank adds up one slice of Δ and sends its mean to the others; with `int8` both travel in eight bits
//! (`compression.rs`), a quarter of the bytes. All ranks apply the same mean, so that their weights are equal bit for
//! bit.

use std::sync::Arc;

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::compression;
use crate::error::{Error, Result};
use crate::flat_parameters::{self, FlatTensors, TrainedParameter};
use crate::process_group::ProcessGroup;

/// The outer optimizer's settings, the recipe's `[train.diloco]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DilocoConfig {
    /// Steps from one synchronization to the next. Evaluations and checkpoints wait for one.
    #[serde(default = "default_every")]
    pub every: u64,
    /// The outer step's learning rate.
    #[serde(default = "default_lr")]
    pub lr: f64,
    /// The outer step's momentum.
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
    group: Arc<ProcessGroup>,
    config: DilocoConfig,
    tensors: Vec<TrainedParameter>,
    /// The weights at the last synchronization, in the model's order.
    start: Vec<f32>,
    momentum: Vec<f32>,
}

impl Diloco {
    /// The outer optimizer of ranks that all have `model`; `momentum` is what [`momentum`](Self::momentum) returned in
    /// an earlier run.
    ///
    /// # Errors
    /// [`Error::Ranks`]: the momentum is of another model.
    pub fn new(
        group: Arc<ProcessGroup>,
        config: DilocoConfig,
        model: &impl Module,
        momentum: Option<&[u8]>,
    ) -> Result<Self> {
        let tensors = flat_parameters::trained(model);
        let start = flatten(&tensors, model);
        let momentum = match momentum {
            Some(bytes) => bytemuck::pod_collect_to_vec(bytes),
            None => vec![0.0; start.len()],
        };
        if momentum.len() != start.len() {
            return Err(Error::Ranks(
                "the checkpoint's outer momentum is of another model".into(),
            ));
        }
        Ok(Self {
            group,
            config,
            tensors,
            start,
            momentum,
        })
    }

    /// Whether the ranks synchronize after `step` steps; after the `last` one they always do.
    pub fn synchronizes_after(&self, step: u64, last: bool) -> bool {
        step.is_multiple_of(self.config.every) || last
    }

    /// The outer step: returns the model that all ranks go on with, given this rank's.
    pub fn synchronize<M: Module>(&mut self, model: M) -> M {
        let local = flatten(&self.tensors, &model);
        let delta: Vec<f32> = self.start.iter().zip(&local).map(|(s, l)| s - l).collect();
        let mean = mean(&self.group, delta, self.config.int8);
        nesterov(&self.config, &mut self.start, &mut self.momentum, &mean);
        let mut all = FlatTensors::new();
        flat_parameters::split(&self.tensors, &self.start, &mut all);
        flat_parameters::with_weights(model, all)
    }

    /// The outer momentum in the model's order, as little-endian f32.
    pub fn momentum(&self) -> Vec<u8> {
        bytemuck::cast_slice(&self.momentum).to_vec()
    }
}

fn flatten(tensors: &[TrainedParameter], model: &impl Module) -> Vec<f32> {
    flat_parameters::concat(tensors, &mut flat_parameters::weights(model, |_| true))
}

/// The mean of all ranks' `values`, the same bits on all.
fn mean(group: &ProcessGroup, values: Vec<f32>, int8: bool) -> Vec<f32> {
    let (n, ranks) = (values.len(), group.size());
    // Whole blocks, so that a block's scale is of one slice.
    let slice = n.div_ceil(ranks).next_multiple_of(compression::BLOCK);
    let range = |rank: usize| (rank * slice).min(n)..((rank + 1) * slice).min(n);
    let mine = range(group.rank()).len();
    let slices = (0..ranks).map(|rank| &values[range(rank)]);
    let mut sum = if int8 {
        let mut sum = vec![0.0; mine];
        for part in group.all_to_all(slices.map(compression::encode).collect()) {
            compression::add_decoded(&part, &mut sum);
        }
        sum
    } else {
        let parts = slices.map(<[f32]>::to_vec).collect();
        group.reduce_scatter(parts).wait()
    };
    sum.iter_mut().for_each(|x| *x /= ranks as f32);
    let (bytes, size): (Vec<u8>, fn(usize) -> usize) = if int8 {
        (compression::encode(&sum), compression::encoded_len)
    } else {
        (bytemuck::cast_slice(&sum).to_vec(), |n| 4 * n)
    };
    let sizes = (0..ranks).map(|rank| size(range(rank).len()));
    let all = group.all_gather_v(bytes, sizes.collect()).wait();
    let mut mean = vec![0.0; n];
    for (rank, bytes) in all.iter().enumerate() {
        let slice = &mut mean[range(rank)];
        if int8 {
            compression::add_decoded(bytes, slice);
        } else {
            slice.copy_from_slice(&bytemuck::pod_collect_to_vec::<u8, f32>(bytes));
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
    use crate::process_group::threads;

    const CONFIG: DilocoConfig = DilocoConfig {
        every: 2,
        lr: 0.7,
        momentum: 0.9,
        int8: false,
    };

    #[test]
    fn diloco_outer_step_is_nesterovs() {
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
    fn diloco_mean_is_equal_on_all_ranks_and_close_in_int8() {
        let n = 5 * compression::BLOCK + 3;
        let value = |rank: usize, i: usize| ((i * 31 + rank * 17) % 101) as f32 / 50.0 - 1.0;
        for int8 in [false, true] {
            let found = threads::run(3, |group| {
                let mine = (0..n).map(|i| value(group.rank(), i)).collect();
                (mean(&group, mine, int8), group.sent_bytes())
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
            let bytes = if int8 {
                compression::encoded_len(n)
            } else {
                4 * n
            };
            // Slices are of whole blocks here, and equal on the way.
            let more = sent - 4 * bytes as u64;
            assert!(more < 2 * 4 * compression::BLOCK as u64, "{more}");
        }
    }
}
