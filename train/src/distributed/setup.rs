//! What each rank receives of rank 0's checkpoint at the start of a run, and gives back to it for the next one.
//!
//! A checkpoint holds the optimizer's state of all parameters, whichever rank owns them, so that any number of ranks
//! can go on from it.

use std::path::Path;
use std::sync::Arc;

use burn::optim::ModuleOptimizer;
use burn::tensor::Bytes;
use retort_comm::{Diloco, Error, ProcessGroup, Zero1, flat_parameters, optimizer_shards};
use retort_model::Decoder;

use super::{DilocoRun, LocalSteps, Strategy};
use crate::checkpoint::{DilocoState, TrainerState};
use crate::error::Result;
use crate::loss_spike::SpikeDetector;
use crate::optimizer::optimizer;
use crate::param_groups::ParamGroup;
use crate::recipe::TrainConfig;

impl Strategy {
    /// Makes one run of the ranks of `group`. Rank 0 has read `checkpoint` if the run goes on: all ranks receive its
    /// weights, and what they need of the optimizer's state.
    ///
    /// # Errors
    /// A file of the checkpoint is damaged, or of another model.
    pub fn start(
        group: &Arc<ProcessGroup>,
        (config, groups): (&TrainConfig, &[ParamGroup]),
        checkpoint: Option<&Path>,
        state: &mut TrainerState,
        model: Decoder,
        optimizer: ModuleOptimizer,
    ) -> Result<(Self, Decoder, ModuleOptimizer)> {
        let resumed = state.step > 0;
        let model = if resumed && group.size() > 1 {
            broadcast_weights(group, model)
        } else {
            model
        };
        let Some(diloco) = config.diloco else {
            if group.size() == 1 {
                return Ok((Self::Single, model, optimizer));
            }
            let zero1 = Zero1::new(group.clone(), &model);
            let optimizer = if resumed {
                let shards = if group.is_main() {
                    zero1.optimizer_shards(&to_bytes(&optimizer)?)?
                } else {
                    Vec::new()
                };
                from_bytes(config, groups, group.scatter(shards))?
            } else {
                optimizer
            };
            return Ok((Self::Zero1(zero1), model, optimizer));
        };
        let run = |outer| {
            Self::Diloco(Box::new(DilocoRun {
                outer,
                steps: LocalSteps::default(),
            }))
        };
        if !resumed {
            let outer = Diloco::new(group.clone(), diloco, &model, None)?;
            return Ok((run(outer), model, optimizer));
        }
        let (mut momentum, mut optimizers, mut detectors) = (Vec::new(), Vec::new(), Vec::new());
        if let (Some(checkpoint), Some(files)) = (checkpoint, &state.diloco) {
            let saved = DilocoState::read(checkpoint, files)?;
            let mut all = vec![to_bytes(&optimizer)?];
            all.extend(saved.optimizers);
            optimizers = in_turn(&all, group.size());
            let texts = saved.loss_spikes.iter();
            let texts = texts.map(|d| serde_json::to_vec(d).expect("a detector serializes"));
            detectors = in_turn(&texts.collect::<Vec<_>>(), group.size());
            momentum = saved.momentum;
        }
        let momentum = group.broadcast(momentum);
        let optimizer = from_bytes(config, groups, group.scatter(optimizers))?;
        if let Ok(detector) = serde_json::from_slice(&group.scatter(detectors)) {
            state.loss_spike = detector;
        }
        let outer = Diloco::new(group.clone(), diloco, &model, Some(&momentum))?;
        Ok((run(outer), model, optimizer))
    }

    /// What a checkpoint needs of all ranks: on rank 0 the whole of the optimizer's state, and what DiLoCo's ranks have
    /// each of their own. On the others the result is not used.
    ///
    /// # Errors
    /// A rank's state is not understood.
    pub fn gather(
        &self,
        group: &ProcessGroup,
        (config, groups): (&TrainConfig, &[ParamGroup]),
        optimizer: &ModuleOptimizer,
        detector: &SpikeDetector,
    ) -> Result<(ModuleOptimizer, Option<DilocoState>)> {
        match self {
            Self::Single => Ok((optimizer.clone(), None)),
            Self::Zero1(_) => {
                let shards = group.gather(to_bytes(optimizer)?);
                if !group.is_main() {
                    return Ok((optimizer.clone(), None));
                }
                let whole = optimizer_shards::merge(shards)?;
                Ok((from_bytes(config, groups, whole)?, None))
            }
            Self::Diloco(run) => {
                let mine = if group.is_main() {
                    Vec::new()
                } else {
                    to_bytes(optimizer)?
                };
                let optimizers = group.gather(mine).into_iter().skip(1).collect();
                let mine = serde_json::to_vec(detector).expect("a detector serializes");
                let detectors = group.gather(mine);
                let detectors = detectors.iter().map(|text| serde_json::from_slice(text));
                let detectors = detectors.collect::<std::result::Result<_, _>>();
                let state = DilocoState {
                    momentum: run.outer.momentum(),
                    optimizers,
                    loss_spikes: detectors
                        .map_err(|e| Error::Ranks(format!("a rank's spike detector: {e}")))?,
                };
                Ok((optimizer.clone(), Some(state)))
            }
        }
    }
}

/// `all` for so many ranks, from the first again where there are more ranks.
fn in_turn(all: &[Vec<u8>], ranks: usize) -> Vec<Vec<u8>> {
    all.iter().cycle().take(ranks).cloned().collect()
}

/// `model` with rank 0's weights, the frozen ones too.
fn broadcast_weights(group: &ProcessGroup, model: Decoder) -> Decoder {
    let weights = flat_parameters::weights(&model, |_| true);
    let mut weights: Vec<_> = weights.into_iter().collect();
    weights.sort_by_key(|(id, _)| id.val());
    let received = weights.into_iter().map(|(id, mine)| {
        let bytes = group.broadcast(bytemuck::cast_slice(&mine).to_vec());
        (id, bytemuck::pod_collect_to_vec(&bytes))
    });
    let received = received.collect();
    if group.is_main() {
        model
    } else {
        flat_parameters::with_weights(model, received)
    }
}

fn to_bytes(optimizer: &ModuleOptimizer) -> Result<Vec<u8>> {
    let bytes = optimizer.into_bytes();
    let bytes =
        bytes.map_err(|e| Error::Ranks(format!("the optimizer's state cannot be sent: {e}")))?;
    Ok(bytes.to_vec())
}

fn from_bytes(
    config: &TrainConfig,
    groups: &[ParamGroup],
    bytes: Vec<u8>,
) -> Result<ModuleOptimizer> {
    let loaded = optimizer(config, groups).from_bytes(Bytes::from_bytes_vec(bytes));
    let loaded = loaded
        .map_err(|e| Error::Ranks(format!("the optimizer's state cannot be received: {e}")))?;
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::learning_rates;
    use crate::optimizer::tests::{grads, model};
    use crate::param_groups::param_groups;

    #[test]
    fn optimizer_shards_merge_into_one_that_steps_as_before() {
        let text = "steps = 1\nbatch_size = 1\nlr = 1e-2\noptimizer = \"muon\"";
        let config: TrainConfig = toml::from_str(text).unwrap();
        let model = model();
        let groups = param_groups(&config, model.named_parameters()).unwrap();
        let rates = || learning_rates(0.1, &groups);
        let mut before = optimizer(&config, &groups);
        let model = before.step(rates(), model.clone(), grads(&model));
        let whole = to_bytes(&before).unwrap();
        let shards =
            [0, 1, 2].map(|rank| optimizer_shards::shard(&whole, |id| id % 3 == rank).unwrap());
        assert!(shards.iter().all(|shard| shard.len() < whole.len()));
        let merged = optimizer_shards::merge(shards.to_vec()).unwrap();
        let mut after = from_bytes(&config, &groups, merged).unwrap();
        let step = |optimizer: &mut ModuleOptimizer| {
            let moved = optimizer.step(rates(), model.clone(), grads(&model));
            flat_parameters::checksum(&moved)
        };
        assert_eq!(step(&mut before), step(&mut after));
    }
}
