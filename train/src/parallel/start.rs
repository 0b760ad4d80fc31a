//! The ranks of a run at its start and at its checkpoints: what each gets of rank 0's, and gives back to it.
//!
//! A checkpoint holds the optimizer's state of all parameters, whoever owns them, so that any number of ranks
//! can go on from it.

use std::path::Path;
use std::sync::Arc;

use burn::optim::ModuleOptimizer;
use burn::tensor::Bytes;
use retort_model::Decoder;

use super::diloco::Diloco;
use super::numbers;
use super::synchronous::Synchronous;
use crate::checkpoint::{Apart, State, moments};
use crate::error::{Error, Result};
use crate::groups::Rule;
use crate::guard::Guard;
use crate::optimizer::optimizer;
use crate::recipe::TrainConfig;
use crate::world::World;

/// How the ranks of a run train together.
pub enum Ranks {
    /// There is one.
    Alone,
    /// Every step is that of all.
    Synchronous(Synchronous),
    /// They meet now and then.
    Apart(Box<Diloco>),
}

impl Ranks {
    /// Makes one run of the ranks of `world`, of which rank 0 has read the checkpoint `begun` if the run goes on:
    /// all get its weights, and what they need of the optimizer's state.
    ///
    /// # Errors
    /// A file of the checkpoint is damaged, or of another model.
    pub fn start(
        world: &Arc<World>,
        (config, rules): (&TrainConfig, &[Rule]),
        begun: Option<&Path>,
        state: &mut State,
        model: Decoder,
        moments: ModuleOptimizer,
    ) -> Result<(Self, Decoder, ModuleOptimizer)> {
        let resumed = state.step > 0;
        let model = match resumed && world.size() > 1 {
            true => same_weights(world, model),
            false => model,
        };
        let Some(diloco) = config.diloco else {
            if world.size() == 1 {
                return Ok((Self::Alone, model, moments));
            }
            let ranks = Synchronous::new(world.clone(), &model);
            let moments = match resumed {
                true => {
                    let each = match world.leads() {
                        true => ranks.pieces(&state_of(&moments)?)?,
                        false => Vec::new(),
                    };
                    with_state(config, rules, world.scatter(each))?
                }
                false => moments,
            };
            return Ok((Self::Synchronous(ranks), model, moments));
        };
        if !resumed {
            let ranks = Diloco::new(world.clone(), diloco, &model, None)?;
            return Ok((Self::Apart(Box::new(ranks)), model, moments));
        }
        let (mut momentum, mut each, mut guards) = (Vec::new(), Vec::new(), Vec::new());
        if let (Some(begun), Some(apart)) = (begun, &state.apart) {
            let apart = Apart::read(begun, apart)?;
            let mut all = vec![state_of(&moments)?];
            all.extend(apart.moments);
            each = dealt(&all, world.size());
            let texts = apart
                .guards
                .iter()
                .map(|guard| serde_json::to_vec(guard).expect("a guard serializes"));
            guards = dealt(&texts.collect::<Vec<_>>(), world.size());
            momentum = apart.momentum;
        }
        let momentum = world.broadcast(momentum);
        let moments = with_state(config, rules, world.scatter(each))?;
        if let Ok(guard) = serde_json::from_slice::<Guard>(&world.scatter(guards)) {
            state.guard = guard;
        }
        let ranks = Diloco::new(world.clone(), diloco, &model, Some(&momentum))?;
        Ok((Self::Apart(Box::new(ranks)), model, moments))
    }

    /// The ranks whose steps are one.
    pub fn synchronous(&self) -> Option<&Synchronous> {
        match self {
            Self::Synchronous(ranks) => Some(ranks),
            _ => None,
        }
    }

    /// What a checkpoint needs of all ranks, on rank 0: the whole of the optimizer's state, and what each has of its
    /// own. Elsewhere what it answers means nothing.
    ///
    /// # Errors
    /// A rank's state is not understood.
    pub fn collected(
        &self,
        world: &World,
        (config, rules): (&TrainConfig, &[Rule]),
        moments: &ModuleOptimizer,
        guard: &Guard,
    ) -> Result<(ModuleOptimizer, Option<Apart>)> {
        match self {
            Self::Alone => Ok((moments.clone(), None)),
            Self::Synchronous(_) => {
                let pieces = world.collect(state_of(moments)?);
                match world.leads() {
                    true => Ok((with_state(config, rules, moments::merged(pieces)?)?, None)),
                    false => Ok((moments.clone(), None)),
                }
            }
            Self::Apart(ranks) => {
                let mine = if world.leads() {
                    Vec::new()
                } else {
                    state_of(moments)?
                };
                let each = world.collect(mine).into_iter().skip(1).collect();
                let guards = world.collect(serde_json::to_vec(guard).expect("a guard serializes"));
                let guards = guards.iter().map(|text| serde_json::from_slice(text));
                let guards = guards.collect::<std::result::Result<_, _>>();
                let apart = Apart {
                    momentum: ranks.momentum(),
                    moments: each,
                    guards: guards.map_err(|e| Error::World(format!("a rank's guard: {e}")))?,
                };
                Ok((moments.clone(), Some(apart)))
            }
        }
    }
}

/// `all`, in turn, to so many ranks.
fn dealt(all: &[Vec<u8>], ranks: usize) -> Vec<Vec<u8>> {
    all.iter().cycle().take(ranks).cloned().collect()
}

/// `model` with rank 0's weights, the frozen ones too.
fn same_weights(world: &World, model: Decoder) -> Decoder {
    let mut all: Vec<_> = numbers::weights(&model, |_| true).into_iter().collect();
    all.sort_by_key(|(id, _)| id.val());
    let told = all.into_iter().map(|(id, mine)| {
        let bytes = world.broadcast(bytemuck::cast_slice(&mine).to_vec());
        (id, bytemuck::pod_collect_to_vec(&bytes))
    });
    let told = told.collect();
    match world.leads() {
        true => model,
        false => numbers::with_weights(model, told),
    }
}

fn state_of(optimizer: &ModuleOptimizer) -> Result<Vec<u8>> {
    let bytes = optimizer.into_bytes();
    let bytes =
        bytes.map_err(|e| Error::World(format!("the optimizer's state cannot be sent: {e}")))?;
    Ok(bytes.to_vec())
}

fn with_state(config: &TrainConfig, rules: &[Rule], bytes: Vec<u8>) -> Result<ModuleOptimizer> {
    let loaded = optimizer(config, rules).from_bytes(Bytes::from_bytes_vec(bytes));
    loaded.map_err(|e| Error::World(format!("the optimizer's state cannot be received: {e}")))
}
