//! Which rank owns which parameter, and the buckets in which gradients travel.
//!
//! Ownership is that of ZeRO's first stage (Rajbhandari et al., arXiv 1910.02054), with whole parameters in place of
//! slices, so that Muon sees whole matrices. The largest parameter first, each goes to the rank that has least so
//! far: no rank has more than the mean and one parameter. A bucket holds the parameters of neighbouring layers, the
//! last layers in the first bucket, in the order of the backward pass. The last bucket holds what is in no layer.

use burn::module::ParamId;

use crate::flat_parameters::TrainedParameter;

/// A bucket takes in layers until it has so many weights.
const BUCKET_WEIGHTS: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct Buckets {
    /// The trained parameters, in the model's order.
    pub tensors: Vec<TrainedParameter>,
    /// The owner's rank of each.
    pub owners: Vec<usize>,
    /// Indices into `tensors`, each in the model's order.
    pub buckets: Vec<Vec<usize>>,
    ranks: usize,
}

impl Buckets {
    /// Divides `tensors` among `ranks`.
    pub fn new(tensors: Vec<TrainedParameter>, ranks: usize) -> Self {
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(tensors[i].elements));
        let (mut owners, mut loads) = (vec![0; tensors.len()], vec![0; ranks]);
        for i in order {
            let least = (0..ranks).min_by_key(|&rank| loads[rank]).unwrap_or(0);
            loads[least] += tensors[i].elements;
            owners[i] = least;
        }
        Self {
            buckets: buckets(&tensors),
            tensors,
            owners,
            ranks,
        }
    }

    /// Whether `rank` updates parameter `id`.
    pub fn owns(&self, rank: usize, id: ParamId) -> bool {
        let found = self.tensors.iter().position(|t| t.id == id);
        found.is_some_and(|i| self.owners[i] == rank)
    }

    /// The parameters of `bucket` that `keep` accepts, by owner.
    pub fn by_owner(&self, bucket: usize, keep: impl Fn(ParamId) -> bool) -> Vec<Vec<usize>> {
        let mut parts = vec![Vec::new(); self.ranks];
        for &i in &self.buckets[bucket] {
            if keep(self.tensors[i].id) {
                parts[self.owners[i]].push(i);
            }
        }
        parts
    }

    /// Weights of the tensors `part`.
    pub fn elements(&self, part: &[usize]) -> usize {
        part.iter().map(|&i| self.tensors[i].elements).sum()
    }
}

fn buckets(tensors: &[TrainedParameter]) -> Vec<Vec<usize>> {
    let layers = tensors
        .iter()
        .filter_map(|t| t.layer)
        .max()
        .map_or(0, |last| last + 1);
    let of = |layer: Option<usize>| (0..tensors.len()).filter(move |&i| tensors[i].layer == layer);
    let (mut buckets, mut bucket) = (Vec::new(), Vec::new());
    for layer in (0..layers).rev() {
        bucket.extend(of(Some(layer)));
        let elements: usize = bucket.iter().map(|&i: &usize| tensors[i].elements).sum();
        if elements >= BUCKET_WEIGHTS || layer == 0 {
            bucket.sort_unstable();
            buckets.push(std::mem::take(&mut bucket));
        }
    }
    buckets.push(of(None).collect());
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 12 layers of 7 tensors after an embedding, before a norm.
    fn tensors() -> Vec<TrainedParameter> {
        let mut tensors = Vec::new();
        let mut push = |elements, layer| {
            tensors.push(TrainedParameter {
                id: ParamId::from(tensors.len() as u64),
                elements,
                layer,
            });
        };
        push(2_000_000, None);
        for layer in 0..12 {
            for elements in [65_536, 65_536, 65_536, 65_536, 176_128, 176_128, 256] {
                push(elements, Some(layer));
            }
        }
        push(256, None);
        tensors
    }

    #[test]
    fn every_parameter_has_one_owner_and_no_rank_much_more_than_its_share() {
        let tensors = tensors();
        let all: usize = tensors.iter().map(|t| t.elements).sum();
        for ranks in [1, 2, 3, 4, 7, 64] {
            let plan = Buckets::new(tensors.clone(), ranks);
            let mut loads = vec![0; ranks];
            for (tensor, &owner) in tensors.iter().zip(&plan.owners) {
                loads[owner] += tensor.elements;
                for rank in 0..ranks {
                    assert_eq!(plan.owns(rank, tensor.id), rank == owner);
                }
            }
            let most = *loads.iter().max().unwrap();
            assert!(
                most <= (all / ranks + 176_128).max(2_000_000),
                "{ranks}: {loads:?}"
            );
        }
    }

    #[test]
    fn buckets_hold_everything_once_the_last_layers_first() {
        let plan = Buckets::new(tensors(), 3);
        let mut seen: Vec<usize> = plan.buckets.concat();
        let first: Vec<_> = plan.buckets[0]
            .iter()
            .filter_map(|&i| plan.tensors[i].layer)
            .collect();
        assert!(first.contains(&11) && !first.contains(&0));
        assert_eq!(plan.buckets.last().unwrap(), &[0, 85]);
        seen.sort_unstable();
        assert_eq!(seen, (0..86).collect::<Vec<_>>());
        let parts = plan.by_owner(0, |id| id != plan.tensors[84].id);
        assert_eq!(parts.concat().len(), plan.buckets[0].len() - 1);
    }
}
