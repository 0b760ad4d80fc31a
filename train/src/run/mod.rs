//! From a recipe to a run that is ready to go: data tokenized, model built or loaded,
//! the run directory opened, new or where it stopped.

mod companions;
mod model;
mod resume_check;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use retort_comm::ProcessGroup;
use retort_comm::consistency::ConsistencyCheck;
use retort_comm::flat_parameters::checksum;
use retort_data::{Data, DocumentProgress};
use retort_format::ModelConfig;
use retort_format::checkpoint::Companions;
use retort_model::Decoder;
use retort_tokenizer::Tokenizer;

use crate::checkpoint::{self, EMA, TrainerState};
use crate::distributed::StepShare;
use crate::error::{Error, Result};
use crate::eval_hook::Evaluator;
use crate::loss_spike::SpikeDetector;
use crate::optimizer::optimizer;
use crate::param_groups::{ParamGroup, param_groups};
use crate::recipe::{ModelSection, Recipe};
use companions::companions;
pub use model::initial_model;
use model::load_ema;
pub(crate) use model::{
    build_model, check_fit, fill_from_tokenizer, fill_lengths, with_auxiliary_parameters,
    with_recipe_numerics,
};
use resume_check::check_same_recipe;

/// A run about to start or go on.
pub struct Prepared {
    /// The recipe as resolved.
    pub recipe: Recipe,
    /// The run directory.
    pub run: PathBuf,
    /// The device, with autodiff.
    pub device: Device,
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The data, open.
    pub data: Data,
    /// The model's shape.
    pub config: ModelConfig,
    /// Evaluates the weights on `[tasks]`; nothing does where there is none.
    pub evaluator: Option<Box<dyn Evaluator>>,
    /// The ranks of the run.
    pub group: Arc<ProcessGroup>,
    /// What a checkpoint carries beside weights and tokenizer; only rank 0 has it.
    pub(crate) companions: Arc<Companions>,
    pub(crate) model: Decoder,
    /// The average of the weights, without autodiff.
    pub(crate) ema: Option<Decoder>,
    pub(crate) param_groups: Vec<ParamGroup>,
    pub(crate) optimizer: ModuleOptimizer,
    pub(crate) state: TrainerState,
}

impl Prepared {
    /// Updates done before this start; 0 for a new run.
    pub fn first_step(&self) -> u64 {
        self.state.step
    }
}

/// Prepares `recipe` to run in directory `run` on `device` (as [`device`](crate::device)
/// gives it). With `resume` the newest checkpoint in `run` is gone on from, if there is
/// one. Nothing is written before everything has been checked.
///
/// # Errors
/// Anything wrong with the recipe's files; a run directory that already holds a run; a
/// resumption with another recipe or other data.
pub fn prepare(
    recipe: Recipe,
    run: &Path,
    device: &Device,
    resume: bool,
    progress: &dyn Fn(DocumentProgress),
) -> Result<Prepared> {
    prepare_distributed(
        ProcessGroup::single(),
        recipe,
        run,
        device,
        resume,
        progress,
    )
}

/// The same on all ranks of `group`. Only rank 0 reads the run directory; the others receive the checkpoint from it.
///
/// # Errors
/// As [`prepare`]; [`Error::Comm`]: a step's rows cannot be shared, or the ranks do not do the same.
pub fn prepare_distributed(
    group: Arc<ProcessGroup>,
    recipe: Recipe,
    run: &Path,
    device: &Device,
    resume: bool,
    progress: &dyn Fn(DocumentProgress),
) -> Result<Prepared> {
    let started = group.is_main() && run.join("recipe.toml").exists();
    if started && !resume {
        return Err(Error::invalid(
            run,
            "already holds a run: pass --resume to go on with it, or another --run directory",
        ));
    }
    StepShare::new(&recipe.train, group.size())?;
    let device = device.clone().autodiff();
    let checkpoint = if resume && group.is_main() {
        checkpoint::latest(run)?
    } else {
        None
    };
    let tokenizer = Arc::new(match &checkpoint {
        // Where a run began need not be there any more when it goes on.
        Some(checkpoint) if !recipe.data.tokenizer.exists() => {
            Tokenizer::from_file(checkpoint, None)?
        }
        _ => Tokenizer::from_file(&recipe.data.tokenizer, None)?,
    });
    let (config, model) = build_model(&recipe, &tokenizer, checkpoint.as_deref(), &device)?;
    check_fit(&config, &tokenizer, recipe.data.seq_len)?;
    let param_groups = param_groups(&recipe.train, model.named_parameters())?;
    let mut recipe = recipe;
    if let ModelSection::New(_) = recipe.model {
        recipe.model = ModelSection::New(config.clone());
    }
    if started {
        check_same_recipe(&recipe, run)?;
    }
    let state = checkpoint
        .as_deref()
        .map(checkpoint::load_state)
        .transpose()?;
    let state = broadcast_state(&group, state)?;
    let cursor = state.as_ref().map(|state| &state.cursor);
    // One after the other: what rank 0 has fetched or found is there for the others on its machine.
    if !group.is_main() {
        group.barrier();
    }
    let data = Data::open(&recipe.data, &tokenizer, Some(run), cursor, progress)?;
    if group.is_main() {
        group.barrier();
    }
    let mut optimizer = optimizer(&recipe.train, &param_groups);
    if let (Some(checkpoint), Some(state)) = (&checkpoint, &state) {
        optimizer = checkpoint::load_optimizer(checkpoint, state, optimizer)?;
    }
    let ema = match (&checkpoint, recipe.train.ema_decay > 0.0) {
        // It is rank 0 that evaluates and saves it.
        (_, on) if !on || !group.is_main() => None,
        (None, _) => Some(model.valid()),
        (Some(checkpoint), _) => Some(load_ema(&recipe, &checkpoint.join(EMA), &device)?),
    };
    let state = state.unwrap_or_else(|| TrainerState {
        step: 0,
        tokens: 0,
        seconds: 0.0,
        loss_spike: SpikeDetector::default(),
        validation_loss: None,
        optimizer: None,
        diloco: None,
        cursor: data.start(),
    });
    if group.size() > 1 {
        check_consistency(&group, &recipe, &data, &state, &model)?;
    }
    let companions = Arc::new(if group.is_main() {
        companions(&recipe, &tokenizer, checkpoint.as_deref())?
    } else {
        Companions::default()
    });
    if group.is_main() {
        fs::create_dir_all(run).map_err(Error::io(run))?;
        let path = run.join("recipe.toml");
        retort_files::write(&path, recipe.to_toml().as_bytes()).map_err(Error::io(&path))?;
    }
    Ok(Prepared {
        recipe,
        run: run.to_owned(),
        device,
        tokenizer,
        data,
        config,
        evaluator: None,
        group,
        companions,
        model,
        ema,
        param_groups,
        optimizer,
        state,
    })
}

/// The state that rank 0 read from a checkpoint, on all ranks.
fn broadcast_state(
    group: &ProcessGroup,
    state: Option<TrainerState>,
) -> Result<Option<TrainerState>> {
    if group.size() == 1 {
        return Ok(state);
    }
    let text = serde_json::to_vec(&state).expect("the state serializes");
    let received = serde_json::from_slice(&group.broadcast(text));
    Ok(received.map_err(|e| {
        retort_comm::Error::Ranks(format!("rank 0's checkpoint is not understood: {e}"))
    })?)
}

/// Compares what the ranks are about to do.
fn check_consistency(
    group: &ProcessGroup,
    recipe: &Recipe,
    data: &Data,
    state: &TrainerState,
    model: &Decoder,
) -> Result<()> {
    let start = serde_json::to_string(&data.start()).expect("a cursor serializes");
    let mut check = ConsistencyCheck::of_program()?
        .text("recipe", &recipe.to_toml())
        .text("data", &start)
        .number("step", state.step);
    if state.step == 0 {
        // Later the other ranks receive them from rank 0.
        check = check.number("weights", u64::from(checksum(model)));
    }
    Ok(check.run(group)?)
}
