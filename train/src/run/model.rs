//! The model of a run: built at random, loaded from a Hugging Face directory, or from a checkpoint of the run; with its
//! adapters, precision and fake quantization, and the matrices that an objective trains beside it.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use retort_format::ModelConfig;
use retort_model::{Decoder, RandomInit};
use retort_tokenizer::Tokenizer;

use crate::error::{Error, Result};
use crate::objective::Objective;
use crate::recipe::{ModelSection, Recipe};

/// The model that a run of `recipe` starts with, on `device` without autodiff.
///
/// # Errors
/// Anything wrong with the recipe's tokenizer or model.
pub fn initial_model(recipe: &Recipe, device: &Device) -> Result<(ModelConfig, Decoder)> {
    let tokenizer = Tokenizer::from_file(&recipe.data.tokenizer, None)?;
    build_model(recipe, &tokenizer, None, device)
}

/// The model that `recipe` starts with, or `checkpoint`'s.
pub(crate) fn build_model(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    checkpoint: Option<&Path>,
    device: &Device,
) -> Result<(ModelConfig, Decoder)> {
    let (config, model) = match (checkpoint, &recipe.model) {
        (Some(directory), _) if recipe.lora.is_none() => load_trained(recipe, directory, device)?,
        (_, ModelSection::From(section)) => {
            let (config, model) = retort_model::load(&section.from, device)?;
            (config, with_adapters(model, recipe, checkpoint)?)
        }
        (_, ModelSection::New(config)) => {
            let config = fill_from_tokenizer(config.clone(), tokenizer, recipe.data.seq_len)?;
            let mut init = RandomInit::new(&config, recipe.seed);
            let model = Decoder::build(&config, &mut init, device);
            (config, model)
        }
    };
    Ok((config, with_recipe_numerics(model, recipe)?))
}

/// The trained weights in `directory`, a checkpoint of `recipe`'s run; with `[quantize]` those before rounding.
fn load_trained(
    recipe: &Recipe,
    directory: &Path,
    device: &Device,
) -> Result<(ModelConfig, Decoder)> {
    Ok(match recipe.quantize {
        Some(_) => retort_model::load_latent(directory, device)?,
        None => retort_model::load(directory, device)?,
    })
}

/// `model` with the recipe's precision and fake quantization.
pub(crate) fn with_recipe_numerics(model: Decoder, recipe: &Recipe) -> Result<Decoder> {
    let precision = recipe.train.precision;
    if !model.can_compute(precision) {
        return Err(Error::Precision {
            precision: precision.torch_name(),
        });
    }
    let model = model.with_compute(precision);
    Ok(model.with_fake_quantization(recipe.quantize)?)
}

/// `model` with the recipe's adapters, if any: new, or those of `checkpoint`.
fn with_adapters(model: Decoder, recipe: &Recipe, checkpoint: Option<&Path>) -> Result<Decoder> {
    let Some(lora) = &recipe.lora else {
        return Ok(model);
    };
    Ok(match checkpoint {
        Some(directory) => retort_model::load_adapters(directory, model, lora)?,
        None => model.with_adapters(lora, recipe.seed)?,
    })
}

/// The averaged weights in `directory`, without autodiff; `device` has it.
pub(super) fn load_ema(recipe: &Recipe, directory: &Path, device: &Device) -> Result<Decoder> {
    let average = match &recipe.model {
        ModelSection::From(section) if recipe.lora.is_some() => {
            let (_, base) = retort_model::load(&section.from, device)?;
            with_adapters(base, recipe, Some(directory))?
        }
        _ => load_trained(recipe, directory, device)?.1,
    };
    Ok(with_recipe_numerics(average, recipe)?.valid())
}

/// Fills the keys that a recipe may leave to the tokenizer and the data: `vocab_size`, `eos_token_id`, lengths.
pub(crate) fn fill_from_tokenizer(
    mut config: ModelConfig,
    tokenizer: &Tokenizer,
    seq_len: usize,
) -> Result<ModelConfig> {
    if config.vocab_size == 0 {
        config.vocab_size = tokenizer.vocab_size();
    }
    config.eos_token_id = Some(tokenizer.eot());
    fill_lengths(config, seq_len)
}

/// Fills the keys that a recipe may leave to the data, and checks the shape.
pub(crate) fn fill_lengths(mut config: ModelConfig, seq_len: usize) -> Result<ModelConfig> {
    config.max_position_embeddings = config.max_position_embeddings.max(seq_len);
    Ok(config.resolve()?)
}

/// Whether the model has a row for every id of the tokenizer and positions for the data's rows.
///
/// # Errors
/// The model's key that is too small.
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

/// `model` with the matrices that `objective` trains beside it: those of `checkpoint`, else random from `seed`.
///
/// # Errors
/// The checkpoint does not have them.
pub(crate) fn with_auxiliary_parameters(
    model: Decoder,
    objective: &dyn Objective,
    checkpoint: Option<&Path>,
    seed: u64,
) -> Result<Decoder> {
    let shapes = objective.auxiliary_parameters();
    Ok(match checkpoint {
        _ if shapes.is_empty() => model,
        Some(directory) => retort_model::load_projections(directory, model, &shapes)?,
        None => model.with_projections(&shapes, seed),
    })
}
