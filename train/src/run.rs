//! From a recipe to a run that is ready to go: data tokenized, model built or loaded,
//! the run directory opened, new or where it stopped.

mod same;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use retort_data::{Data, Progress};
use retort_format::ModelConfig;
use retort_model::{Decoder, RandomInit};
use retort_tokenizer::Tokenizer;

use crate::checkpoint::{self, EMA, State};
use crate::error::{Error, Result};
use crate::examine::Examiner;
use crate::groups::{self, Rule};
use crate::guard::Guard;
use crate::optimizer::optimizer;
use crate::parallel::{self, Claims};
use crate::recipe::{ModelSection, Recipe};
use crate::world::World;
use same::check_same;

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
    /// Who asks the weights `[tasks]`; nobody does where there is none.
    pub examiner: Option<Box<dyn Examiner>>,
    /// The ranks that run it.
    pub world: Arc<World>,
    pub(crate) model: Decoder,
    /// The average of the weights, without autodiff.
    pub(crate) ema: Option<Decoder>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) optimizer: ModuleOptimizer,
    pub(crate) state: State,
}

impl Prepared {
    /// Updates done before this start; 0 for a new run.
    pub fn first_step(&self) -> u64 {
        self.state.step
    }
}

/// The model that a run of `recipe` starts with, on `device` without autodiff.
///
/// # Errors
/// Anything wrong with the recipe's tokenizer or model.
pub fn initial_model(recipe: &Recipe, device: &Device) -> Result<(ModelConfig, Decoder)> {
    let tokenizer = Tokenizer::from_file(&recipe.data.tokenizer, None)?;
    model(recipe, &tokenizer, None, device)
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
    progress: &dyn Fn(Progress),
) -> Result<Prepared> {
    prepare_among(World::alone(), recipe, run, device, resume, progress)
}

/// The same among the ranks of `world`. Only rank 0 looks at the run directory; what is in a checkpoint the others
/// have from it.
///
/// # Errors
/// As [`prepare`]; [`Error::World`]: a step's rows cannot be shared, or the ranks do not do the same.
pub fn prepare_among(
    world: Arc<World>,
    recipe: Recipe,
    run: &Path,
    device: &Device,
    resume: bool,
    progress: &dyn Fn(Progress),
) -> Result<Prepared> {
    let started = world.leads() && run.join("recipe.toml").exists();
    if started && !resume {
        return Err(Error::invalid(
            run,
            "already holds a run: pass --resume to go on with it, or another --run directory",
        ));
    }
    parallel::share(&recipe.train, world.size())?;
    let device = device.clone().autodiff();
    let tokenizer = Arc::new(Tokenizer::from_file(&recipe.data.tokenizer, None)?);
    let checkpoint = if resume && world.leads() {
        checkpoint::latest(run)?
    } else {
        None
    };
    let (config, model) = model(&recipe, &tokenizer, checkpoint.as_deref(), &device)?;
    check_fit(&config, &tokenizer, recipe.data.seq_len)?;
    let rules = groups::rules(&recipe.train, model.named_parameters())?;
    let mut recipe = recipe;
    if let ModelSection::New(_) = recipe.model {
        recipe.model = ModelSection::New(config.clone());
    }
    if started {
        check_same(&recipe, run)?;
    }
    let state = checkpoint
        .as_deref()
        .map(checkpoint::load_state)
        .transpose()?;
    let state = told(&world, state)?;
    let cursor = state.as_ref().map(|state| &state.cursor);
    // One after the other: what rank 0 has fetched or found is there for the others on its machine.
    if !world.leads() {
        world.meet();
    }
    let data = Data::open(&recipe.data, &tokenizer, Some(run), cursor, progress)?;
    if world.leads() {
        world.meet();
    }
    let mut optimizer = optimizer(&recipe.train, &rules);
    if let (Some(checkpoint), Some(state)) = (&checkpoint, &state) {
        optimizer = checkpoint::load_optimizer(checkpoint, state, optimizer)?;
    }
    let ema = match (&checkpoint, recipe.train.ema_decay > 0.0) {
        // It is rank 0 that evaluates and saves it.
        (_, on) if !on || !world.leads() => None,
        (None, _) => Some(model.valid()),
        (Some(checkpoint), _) => Some(averaged(&recipe, &checkpoint.join(EMA), &device)?),
    };
    let state = state.unwrap_or_else(|| State {
        step: 0,
        tokens: 0,
        seconds: 0.0,
        guard: Guard::default(),
        validation_loss: None,
        optimizer: None,
        apart: None,
        cursor: data.start(),
    });
    if world.size() > 1 {
        agree(&world, &recipe, &data, &state, &model)?;
    }
    if world.leads() {
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
        examiner: None,
        world,
        model,
        ema,
        rules,
        optimizer,
        state,
    })
}

/// What rank 0 found in a checkpoint, on all ranks.
fn told(world: &World, state: Option<State>) -> Result<Option<State>> {
    if world.size() == 1 {
        return Ok(state);
    }
    let text = serde_json::to_vec(&state).expect("the state serializes");
    serde_json::from_slice(&world.broadcast(text))
        .map_err(|e| Error::World(format!("rank 0's checkpoint is not understood: {e}")))
}

/// Whether all ranks are about to do the same.
fn agree(
    world: &World,
    recipe: &Recipe,
    data: &Data,
    state: &State,
    model: &Decoder,
) -> Result<()> {
    let start = serde_json::to_string(&data.start()).expect("a cursor serializes");
    let mut claims = Claims::new()?
        .text("recipe", &recipe.to_toml())
        .text("data", &start)
        .number("step", state.step);
    if state.step == 0 {
        // Afterwards the others have them from rank 0.
        claims = claims.number("weights", u64::from(parallel::checksum(model)));
    }
    claims.agree(world)
}

/// The model that `recipe` starts with, or `checkpoint`'s.
pub(crate) fn model(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    checkpoint: Option<&Path>,
    device: &Device,
) -> Result<(ModelConfig, Decoder)> {
    let (config, model) = match (checkpoint, &recipe.model) {
        (Some(directory), _) if recipe.lora.is_none() => stored(recipe, directory, device)?,
        (_, ModelSection::From(section)) => {
            let (config, model) = retort_model::load(&section.from, device)?;
            (config, adapted(model, recipe, checkpoint)?)
        }
        (_, ModelSection::New(config)) => {
            let config = fit(config.clone(), tokenizer, recipe.data.seq_len)?;
            let mut init = RandomInit::new(&config, recipe.seed);
            let model = Decoder::build(&config, &mut init, device);
            (config, model)
        }
    };
    Ok((config, as_used(model, recipe)?))
}

/// The weights that a checkpoint of `recipe`'s run has in `directory`, those that are trained.
fn stored(recipe: &Recipe, directory: &Path, device: &Device) -> Result<(ModelConfig, Decoder)> {
    Ok(match recipe.quantize {
        Some(_) => retort_model::load_latent(directory, device)?,
        None => retort_model::load(directory, device)?,
    })
}

/// `model`, computing and rounding as `recipe` says.
pub(crate) fn as_used(model: Decoder, recipe: &Recipe) -> Result<Decoder> {
    let precision = recipe.train.precision;
    if !model.can_compute(precision) {
        return Err(Error::Precision {
            precision: precision.torch_name(),
        });
    }
    let model = model.with_compute(precision);
    Ok(model.with_fake_quantization(recipe.quantize)?)
}

/// `model` with the adapters that `recipe` asks for, if any: new, or those of `checkpoint`.
fn adapted(model: Decoder, recipe: &Recipe, checkpoint: Option<&Path>) -> Result<Decoder> {
    let Some(lora) = &recipe.lora else {
        return Ok(model);
    };
    Ok(match checkpoint {
        Some(directory) => retort_model::load_adapters(directory, model, lora)?,
        None => model.with_adapters(lora, recipe.seed)?,
    })
}

/// The average of the weights in `directory`, for a device with autodiff that it has none of.
fn averaged(recipe: &Recipe, directory: &Path, device: &Device) -> Result<Decoder> {
    let average = match &recipe.model {
        ModelSection::From(section) if recipe.lora.is_some() => {
            let (_, base) = retort_model::load(&section.from, device)?;
            adapted(base, recipe, Some(directory))?
        }
        _ => stored(recipe, directory, device)?.1,
    };
    Ok(as_used(average, recipe)?.valid())
}

/// Fills what a recipe may leave to the tokenizer and the data.
pub(crate) fn fit(
    mut config: ModelConfig,
    tokenizer: &Tokenizer,
    seq_len: usize,
) -> Result<ModelConfig> {
    if config.vocab_size == 0 {
        config.vocab_size = tokenizer.vocab_size();
    }
    config.eos_token_id = Some(tokenizer.eot());
    resolved(config, seq_len)
}

/// Fills what a recipe may leave to the data.
pub(crate) fn resolved(mut config: ModelConfig, seq_len: usize) -> Result<ModelConfig> {
    config.max_position_embeddings = config.max_position_embeddings.max(seq_len);
    Ok(config.resolve()?)
}

pub(crate) fn check_fit(config: &ModelConfig, tokenizer: &Tokenizer, seq_len: usize) -> Result<()> {
    let bad = |field, reason| Err(retort_format::Error::Config { field, reason }.into());
    if config.vocab_size < tokenizer.vocab_size() {
        return bad(
            "vocab_size",
            format!(
                "is {}, but the tokenizer has {} ids: use the model's own tokenizer",
                config.vocab_size,
                tokenizer.vocab_size()
            ),
        );
    }
    if config.max_position_embeddings < seq_len {
        return bad(
            "max_position_embeddings",
            format!(
                "is {}, less than data.seq_len = {seq_len}: shorten data.seq_len",
                config.max_position_embeddings
            ),
        );
    }
    Ok(())
}
