//! ZeRO, stage 1 (Rajbhandari et al., arXiv 1910.02054): every step is that of all ranks' rows, and each rank keeps
//! the optimizer's state of its own parameters alone.
//!
//! ```text
//! each rank   gradient of its rows ─► buckets ─► owners: sum in the ranks' order, clip, update ─► weights to all
//! ```
//!
//! A token weighs the same on every rank, so the step equals that of one rank up to the order in which f32 numbers
//! are added. With activation checkpointing gradients come a layer at a time, and a bucket travels while the layers
//! before it are computed; without it Burn gives them all at the end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use burn::module::{Module, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};

use crate::buckets::Buckets;
use crate::error::{Error, Result};
use crate::flat_parameters::{self as flat, FlatTensors, TrainedParameter};
use crate::optimizer_shards;
use crate::process_group::{Pending, ProcessGroup};

/// See the module.
pub struct Zero1 {
    group: Arc<ProcessGroup>,
    buckets: Buckets,
}

impl Zero1 {
    /// Divides the parameters of `model`, equal on all ranks, among the ranks of `group`.
    pub fn new(group: Arc<ProcessGroup>, model: &impl Module) -> Self {
        Self {
            buckets: Buckets::new(flat::trained(model), group.size()),
            group,
        }
    }

    /// Whether `rank` updates parameter `id`.
    pub fn owns(&self, rank: usize, id: ParamId) -> bool {
        self.buckets.owns(rank, id)
    }

    /// The optimizer's state `whole` cut into one shard a rank.
    ///
    /// # Errors
    /// [`Error::Ranks`]: it cannot be read.
    pub fn optimizer_shards(&self, whole: &[u8]) -> Result<Vec<Vec<u8>>> {
        let shard = |rank| optimizer_shards::shard(whole, |id| self.owns(rank, ParamId::from(id)));
        (0..self.group.size()).map(shard).collect()
    }

    /// Sums of `numbers` over the ranks, each added in their order.
    pub fn all_reduce_f64(&self, numbers: &[f64]) -> Vec<f64> {
        let all = self.group.all_gather_f64(numbers);
        let at = |i: usize| {
            all.iter()
                .map(|each| each.get(i).copied().unwrap_or(f64::NAN))
                .sum()
        };
        (0..numbers.len()).map(at).collect()
    }

    /// Starts the reduction of a step's gradients of `model`.
    pub fn reduction<'a, M: Module>(&'a self, model: &'a M) -> Reduction<'a, M> {
        Reduction {
            of: self,
            model,
            sum: GradientsAccumulator::new(),
            seen: HashSet::new(),
            started: self.buckets.buckets.iter().map(|_| None).collect(),
        }
    }

    /// The norm of all ranks' gradients times `factor`, added up in the model's order. `grads` holds the gradients that
    /// this rank owns, and `squares` the sum of squares of each, in the model's order.
    pub fn norm(
        &self,
        model: &impl Module,
        grads: &GradientsParams,
        squares: Vec<f32>,
        factor: f64,
    ) -> f64 {
        let mine: HashMap<ParamId, f32> = flat::present(model, grads)
            .into_iter()
            .zip(squares)
            .collect();
        let square = |id| f64::from(mine.get(&id).copied().unwrap_or(0.0));
        let squares: Vec<f64> = self.buckets.tensors.iter().map(|t| square(t.id)).collect();
        self.all_reduce_f64(&squares).iter().sum::<f64>().sqrt() * factor
    }

    /// `model` with the weights of the `updated` parameters as their owners have them.
    pub fn all_gather_weights<M: Module>(&self, model: M, updated: &HashSet<ParamId>) -> M {
        let start = |bucket: usize| {
            let parts = self.buckets.by_owner(bucket, |id| updated.contains(&id));
            let mine: HashSet<ParamId> = self.ids(&parts[self.group.rank()]).collect();
            let mut weights = flat::weights(&model, |id| mine.contains(&id));
            let flat = flat::concat(self.parameters(&parts[self.group.rank()]), &mut weights);
            let sizes = parts
                .iter()
                .map(|part| 4 * self.buckets.elements(part))
                .collect();
            let bytes = bytemuck::cast_slice(&flat).to_vec();
            (parts, self.group.all_gather_v(bytes, sizes))
        };
        let mut all = FlatTensors::new();
        let mut next = Some(start(0));
        for bucket in 1..=self.buckets.buckets.len() {
            let Some((parts, pending)) = next.take() else {
                break;
            };
            next = (bucket < self.buckets.buckets.len()).then(|| start(bucket));
            for (rank, (part, bytes)) in parts.iter().zip(pending.wait()).enumerate() {
                if rank != self.group.rank() {
                    let weights: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
                    flat::split(self.parameters(part), &weights, &mut all);
                }
            }
        }
        flat::with_weights(model, all)
    }

    /// The parameters with the indices `part`.
    fn parameters(&self, part: &[usize]) -> impl Iterator<Item = &TrainedParameter> {
        part.iter().map(|&i| &self.buckets.tensors[i])
    }

    fn ids(&self, part: &[usize]) -> impl Iterator<Item = ParamId> {
        self.parameters(part).map(|parameter| parameter.id)
    }
}

/// The gradients of a step on their way to their owners.
pub struct Reduction<'a, M> {
    of: &'a Zero1,
    model: &'a M,
    sum: GradientsAccumulator<M>,
    /// Parameters that have their whole gradient.
    seen: HashSet<ParamId>,
    /// The buckets under way.
    started: Vec<Option<BucketUnderWay>>,
}

/// This rank's tensors of a bucket, and their sums over the ranks, concatenated.
type BucketUnderWay = (Vec<usize>, Pending<Vec<f32>>);

impl<M: Module> Reduction<'_, M> {
    /// Adds `grads`. In the `last` pass a layer's own gradients come once: a bucket that has all of its own is sent.
    pub fn add(&mut self, grads: GradientsParams, last: bool) {
        if last {
            self.seen.extend(flat::present(self.model, &grads));
        }
        self.sum.accumulate(self.model, grads);
        // The last bucket is of no layer: a tied embedding's gradient comes in two parts.
        for bucket in 0..self.started.len() - 1 {
            let ids = &self.of.buckets.buckets[bucket];
            if last
                && self.started[bucket].is_none()
                && self.of.ids(ids).all(|id| self.seen.contains(&id))
            {
                self.start(bucket);
            }
        }
    }

    fn start(&mut self, bucket: usize) {
        let of = self.of;
        let ids: HashSet<ParamId> = of.ids(&of.buckets.buckets[bucket]).collect();
        let mut grads = self.sum.grads();
        let mut numbers = flat::take(self.model, &mut grads, |id| ids.contains(&id));
        self.sum.accumulate(self.model, grads);
        let mut parts = of.buckets.by_owner(bucket, |id| numbers.contains_key(&id));
        let flat = parts
            .iter()
            .map(|part| flat::concat(of.parameters(part), &mut numbers))
            .collect();
        let mine = parts.swap_remove(of.group.rank());
        self.started[bucket] = Some((mine, of.group.reduce_scatter(flat)));
    }

    /// The sums over all ranks of the gradients that this rank owns, and the parameters for which any rank has a
    /// gradient.
    ///
    /// # Errors
    /// [`Error::Ranks`]: the ranks' gradients are of different parameters; a gradient came after its bucket was sent.
    pub fn finish(mut self) -> Result<(GradientsParams, HashSet<ParamId>)> {
        let of = self.of;
        let rest = self.sum.grads();
        let present = flat::present(self.model, &rest);
        self.sum.accumulate(self.model, rest);
        let sent = |id: &ParamId| {
            (0..self.started.len()).any(|b| {
                self.started[b].is_some() && of.ids(&of.buckets.buckets[b]).any(|x| x == *id)
            })
        };
        let late = present.iter().any(sent);
        let mut updated: HashSet<ParamId> = present.into_iter().collect();
        updated.extend(&self.seen);
        // Compared first, so that no rank waits for what another does not send.
        let has = |id: &ParamId| u8::from(updated.contains(id));
        let mut has: Vec<u8> = of.buckets.tensors.iter().map(|t| has(&t.id)).collect();
        has.extend(self.started.iter().map(|s| u8::from(s.is_some())));
        let all = of.group.all_gather(has);
        if late || all.iter().any(|has| *has != all[0]) {
            return Err(Error::Ranks(
                "the ranks' gradients of this step are not of the same parameters".into(),
            ));
        }
        for bucket in 0..self.started.len() {
            if self.started[bucket].is_none() {
                self.start(bucket);
            }
        }
        let mut sums = FlatTensors::new();
        for (part, sum) in self.started.into_iter().flatten() {
            flat::split(of.parameters(&part), &sum.wait(), &mut sums);
        }
        Ok((flat::gradients(self.model, sums), updated))
    }
}
