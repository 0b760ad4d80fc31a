//! A run under way: its state in memory, how it begins, and what its checkpoints hold.

use burn::module::Module;
use retort_data::{Loader, Rank};

use crate::checkpoint::{self, CheckpointContents};
use crate::distributed::{StepShare, Strategy};
use crate::error::Result;
use crate::evaluate::target_bytes;
use crate::metrics::Evaluation;
use crate::objective::Objective;
use crate::run::{Prepared, with_auxiliary_parameters};
use crate::run_log::RunLog;

/// A run under way.
pub(super) struct Running {
    pub prepared: Prepared,
    pub strategy: Strategy,
    pub loader: Loader,
    /// Forward passes of a step on this rank.
    pub passes: usize,
    /// Only rank 0 has it.
    pub log: Option<RunLog>,
    /// `Some(stop)` after a synchronizing step: whether any rank received a stop signal. `None` between DiLoCo
    /// synchronizations.
    pub stop_requested: Option<bool>,
    /// Bytes that this rank had sent at the last synchronizing step.
    pub sent_bytes: u64,
    /// Bytes of text in the validation rows' targets.
    pub validation_bytes: u64,
    /// The last evaluation.
    pub last_evaluation: Option<Evaluation>,
}

impl Running {
    pub(super) fn start(mut prepared: Prepared, objective: &dyn Objective) -> Result<Self> {
        let resumed = prepared.state.step > 0 && prepared.group.is_main();
        let checkpoint = if resumed {
            checkpoint::latest(&prepared.run)?
        } else {
            None
        };
        let (t, seed) = (&prepared.recipe.train, prepared.recipe.seed);
        let model =
            with_auxiliary_parameters(prepared.model, objective, checkpoint.as_deref(), seed)?;
        let group = prepared.group.clone();
        let (strategy, model, optimizer) = Strategy::start(
            &group,
            (t, &prepared.param_groups),
            checkpoint.as_deref(),
            &mut prepared.state,
            model,
            prepared.optimizer,
        )?;
        (prepared.model, prepared.optimizer) = (model, optimizer);
        let share = StepShare::new(t, group.size())?;
        let rank = Rank {
            index: group.rank(),
            count: group.size(),
        };
        let cursor = Some(&prepared.state.cursor);
        let batches = prepared.data.batches(share.rows, rank, cursor)?;
        let log = || RunLog::open(&prepared.run, prepared.state.step);
        Ok(Self {
            strategy,
            passes: share.passes,
            log: group.is_main().then(log).transpose()?,
            loader: Loader::start(batches)?,
            stop_requested: None,
            sent_bytes: group.sent_bytes(),
            validation_bytes: target_bytes(prepared.data.validation(), &prepared.tokenizer),
            last_evaluation: None,
            prepared,
        })
    }

    /// What a checkpoint of now holds, on rank 0; all ranks must call it.
    pub(super) fn contents(&self) -> Result<CheckpointContents> {
        let p = &self.prepared;
        let adapters = p.recipe.adapters();
        let optimizer = (&p.recipe.train, &p.param_groups[..]);
        let (optimizer, diloco) =
            self.strategy
                .gather(&p.group, optimizer, &p.optimizer, &p.state.loss_spike)?;
        Ok(CheckpointContents {
            config: p.config.clone(),
            model: p.model.valid(),
            ema: p.ema.clone(),
            adapters: adapters.map(|(lora, base)| (lora.clone(), base.to_owned())),
            tokenizer: p.tokenizer.clone(),
            companions: p.companions.clone(),
            optimizer,
            diloco,
            state: p.state.clone(),
        })
    }
}
