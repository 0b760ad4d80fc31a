//! Steps that are those of all ranks' rows together.
//!
//! ```text
//! each rank   gradient of its rows ─► buckets ─► owners: sum in the ranks' order, clip, update ─► weights to all
//! ```
//!
//! A token weighs the same on whatever rank it is, so the step equals that of one rank up to the order in which
//! f32 numbers are added. With activation checkpointing gradients come a layer at a time, and a bucket travels
//! while the layers before it are computed; without it Burn gives them all at the end.

use std::collections::HashSet;
use std::sync::Arc;

use burn::module::ParamId;
use burn::optim::{GradientsAccumulator, GradientsParams};
use retort_model::Decoder;

use super::numbers::{self, Numbers};
use super::shards::Shards;
use crate::checkpoint::moments;
use crate::clip;
use crate::error::{Error, Result};
use crate::world::{Pending, World};

/// See the module.
pub struct Synchronous {
    world: Arc<World>,
    shards: Shards,
}

impl Synchronous {
    /// Of the ranks of `world`, which all have `model`.
    pub fn new(world: Arc<World>, model: &Decoder) -> Self {
        Self {
            shards: Shards::new(numbers::trained(model), world.size()),
            world,
        }
    }

    /// The optimizer's state `whole` in pieces, each with what its rank owns.
    ///
    /// # Errors
    /// It is not understood.
    pub fn pieces(&self, whole: &[u8]) -> Result<Vec<Vec<u8>>> {
        let piece = |rank| moments::part(whole, |id| self.shards.owns(rank, ParamId::from(id)));
        (0..self.world.size()).map(piece).collect()
    }

    /// Sums of `numbers` over the ranks, each in their order.
    pub fn sums(&self, numbers: &[f64]) -> Vec<f64> {
        let all = self.world.gather_numbers(numbers);
        let at = |i: usize| {
            all.iter()
                .map(|each| each.get(i).copied().unwrap_or(f64::NAN))
                .sum()
        };
        (0..numbers.len()).map(at).collect()
    }

    /// Takes in the gradients of a step of `model`.
    pub fn reduction<'a>(&'a self, model: &'a Decoder) -> Reduction<'a> {
        Reduction {
            of: self,
            model,
            sum: GradientsAccumulator::new(),
            seen: HashSet::new(),
            started: self.shards.buckets.iter().map(|_| None).collect(),
        }
    }

    /// The norm of all ranks' gradients times `factor`, added up in the model's order; `grads` has those that this
    /// rank owns.
    pub fn norm(&self, model: &Decoder, grads: &GradientsParams, factor: f64) -> f64 {
        let mine: Numbers = numbers::present(model, grads)
            .into_iter()
            .zip(clip::squares(model, grads))
            .map(|(id, square)| (id, vec![square]))
            .collect();
        let square = |id| mine.get(&id).map_or(0.0, |square| f64::from(square[0]));
        let squares: Vec<f64> = self.shards.tensors.iter().map(|t| square(t.id)).collect();
        self.sums(&squares).iter().sum::<f64>().sqrt() * factor
    }

    /// `model` with the weights `updated`, each as its owner has it.
    pub fn share(&self, model: Decoder, updated: &HashSet<ParamId>) -> Decoder {
        let start = |bucket: usize| {
            let parts = self.shards.by_owner(bucket, |id| updated.contains(&id));
            let mine: HashSet<ParamId> = self.ids(&parts[self.world.rank()]).collect();
            let mut weights = numbers::weights(&model, |id| mine.contains(&id));
            let flat = self.flat(&parts[self.world.rank()], &mut weights);
            let sizes = parts
                .iter()
                .map(|part| 4 * self.shards.elements(part))
                .collect();
            let bytes = bytemuck::cast_slice(&flat).to_vec();
            (parts, self.world.spread(bytes, sizes))
        };
        let mut all = Numbers::new();
        let mut next = Some(start(0));
        for bucket in 1..=self.shards.buckets.len() {
            let Some((parts, pending)) = next.take() else {
                break;
            };
            next = (bucket < self.shards.buckets.len()).then(|| start(bucket));
            for (rank, (part, bytes)) in parts.iter().zip(pending.wait()).enumerate() {
                if rank != self.world.rank() {
                    self.unflatten(part, &bytemuck::pod_collect_to_vec(&bytes), &mut all);
                }
            }
        }
        numbers::with_weights(model, all)
    }

    fn ids(&self, part: &[usize]) -> impl Iterator<Item = ParamId> {
        part.iter().map(|&i| self.shards.tensors[i].id)
    }

    /// The numbers of the tensors `part`, one after the other.
    fn flat(&self, part: &[usize], numbers: &mut Numbers) -> Vec<f32> {
        let each = self.ids(part).filter_map(|id| numbers.remove(&id));
        each.collect::<Vec<_>>().concat()
    }

    fn unflatten(&self, part: &[usize], mut flat: &[f32], numbers: &mut Numbers) {
        for &i in part {
            let (these, rest) = flat.split_at(self.shards.tensors[i].elements);
            numbers.insert(self.shards.tensors[i].id, these.to_vec());
            flat = rest;
        }
    }
}

/// The gradients of a step on their way to their owners.
pub struct Reduction<'a> {
    of: &'a Synchronous,
    model: &'a Decoder,
    sum: GradientsAccumulator<Decoder>,
    /// Parameters that have their whole gradient.
    seen: HashSet<ParamId>,
    /// What is on its way, by bucket.
    started: Vec<Option<Bucket>>,
}

/// A bucket on its way: this rank's tensors of it, and what will be their sums, one after the other.
type Bucket = (Vec<usize>, Pending<Vec<f32>>);

impl Reduction<'_> {
    /// Adds `grads`. In the `last` pass a layer's own gradients come once: a bucket that has all of its own
    /// sets out.
    pub fn add(&mut self, grads: GradientsParams, last: bool) {
        if last {
            self.seen.extend(numbers::present(self.model, &grads));
        }
        self.sum.accumulate(self.model, grads);
        // The last bucket is of no layer: a tied embedding's gradient comes in two parts.
        for bucket in 0..self.started.len() - 1 {
            let ids = &self.of.shards.buckets[bucket];
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
        let ids: HashSet<ParamId> = of.ids(&of.shards.buckets[bucket]).collect();
        let mut grads = self.sum.grads();
        let mut numbers = numbers::take(self.model, &mut grads, |id| ids.contains(&id));
        self.sum.accumulate(self.model, grads);
        let mut parts = of.shards.by_owner(bucket, |id| numbers.contains_key(&id));
        let flat = parts
            .iter()
            .map(|part| of.flat(part, &mut numbers))
            .collect();
        let mine = parts.swap_remove(of.world.rank());
        self.started[bucket] = Some((mine, of.world.reduce(flat)));
    }

    /// The sums over all ranks of the gradients that this rank owns, and which parameters any rank's are of.
    ///
    /// # Errors
    /// The ranks' gradients are of different parameters; a gradient came after its bucket had set out.
    pub fn finish(mut self) -> Result<(GradientsParams, HashSet<ParamId>)> {
        let of = self.of;
        let rest = self.sum.grads();
        let present = numbers::present(self.model, &rest);
        self.sum.accumulate(self.model, rest);
        let early = |id: &ParamId| {
            (0..self.started.len()).any(|b| {
                self.started[b].is_some() && of.ids(&of.shards.buckets[b]).any(|x| x == *id)
            })
        };
        let late = present.iter().any(early);
        let mut updated: HashSet<ParamId> = present.into_iter().collect();
        updated.extend(&self.seen);
        // What each rank has, so that none waits for what another does not send.
        let has = |id: &ParamId| u8::from(updated.contains(id));
        let mut claim: Vec<u8> = of.shards.tensors.iter().map(|t| has(&t.id)).collect();
        claim.extend(self.started.iter().map(|s| u8::from(s.is_some())));
        let claims = of.world.gather(claim);
        if late || claims.iter().any(|claim| *claim != claims[0]) {
            return Err(Error::World(
                "the ranks' gradients of this step are not of the same parameters".into(),
            ));
        }
        for bucket in 0..self.started.len() {
            if self.started[bucket].is_none() {
                self.start(bucket);
            }
        }
        let mut sums = Numbers::new();
        for (part, sum) in self.started.into_iter().flatten() {
            of.unflatten(&part, &sum.wait(), &mut sums);
        }
        Ok((numbers::gradients(self.model, sums), updated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::tests::{grads, model};
    use crate::world::threads::ranks;

    #[test]
    fn owners_have_the_sum_and_everybody_the_owners_weights() {
        let one = numbers::take(&model(), &mut grads(&model()), |_| true);
        let all = ranks(3, |world| {
            let model = model();
            let sync = Synchronous::new(world.clone(), &model);
            let mut reduction = sync.reduction(&model);
            reduction.add(grads(&model), false);
            reduction.add(grads(&model), true);
            let (mut summed, updated) = reduction.finish().unwrap();
            let norm = sync.norm(&model, &summed, 1.0);
            let summed = numbers::take(&model, &mut summed, |_| true);
            for (id, sum) in &summed {
                let expected = one[id].iter().map(|x| 6.0 * x);
                assert!(
                    sum.iter()
                        .zip(expected)
                        .all(|(s, e)| (s - e).abs() <= 1e-6 * e.abs())
                );
            }
            // The owner's weights become its rank.
            let mut mine = numbers::weights(&model, |id| sync.shards.owns(world.rank(), id));
            mine.values_mut()
                .flatten()
                .for_each(|x| *x = world.rank() as f32);
            let model = sync.share(numbers::with_weights(model, mine), &updated);
            (norm, summed.len(), numbers::weights(&model, |_| true))
        });
        assert_eq!(all.iter().map(|(_, n, _)| n).sum::<usize>(), one.len());
        let squares = one.values().flatten().map(|x| f64::from(6.0 * x).powi(2));
        let norm = squares.sum::<f64>().sqrt();
        for (found, _, weights) in &all {
            assert!((found - norm).abs() < 1e-5 * norm, "{found} {norm}");
            assert_eq!(found.to_bits(), all[0].0.to_bits());
            assert_eq!(*weights, all[0].2);
        }
        let shards = Shards::new(numbers::trained(&model()), 3);
        for (id, values) in &all[0].2 {
            let owner = (0..3).find(|&rank| shards.owns(rank, *id)).unwrap();
            assert!(values.iter().all(|x| *x == owner as f32));
        }
    }
}
