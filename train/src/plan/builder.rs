//! Builds a plan from a recipe, with as much of what the recipe names as is there.
//!
//! In: a recipe, a device, and the cost of its teacher. Out: a [`Plan`], its hours from a
//! pass timed here or from a pace that was given. Of the model only the shape is needed: weights
//! are random for the pass. A tokenizer that is not there is done without where the recipe says
//! the size of the vocabulary.

use burn::tensor::Device;
use retort_format::{ModelConfig, Precision};
use retort_model::{Decoder, RandomInit};
use retort_tokenizer::Tokenizer;

use super::probe::{Limits, Probe, choose, with_layers};
use super::sizes::TeacherCost;
use super::totals::Plan;
use crate::device::on_cpu;
use crate::error::{Error, Result};
use crate::objective::Objective;
use crate::param_groups::param_groups;
use crate::recipe::{ModelSection, Recipe};
use crate::run::{
    Prepared, build_model, check_fit, fill_from_tokenizer, fill_lengths, with_auxiliary_parameters,
    with_recipe_numerics,
};

/// A recipe whose plan is counted, and whose probe is chosen.
pub struct PlanBuilder<'a> {
    recipe: &'a Recipe,
    device: Device,
    config: ModelConfig,
    /// Made-up ids are below this.
    ids: usize,
    /// The model, where it had to be built to be counted.
    model: Option<Decoder>,
    probe: Option<Probe>,
    plan: Plan,
}

impl<'a> PlanBuilder<'a> {
    /// Counts the plan of `recipe` on `device`. Reads no data and writes nothing.
    ///
    /// # Errors
    /// A vocabulary whose size nothing tells; anything wrong with the recipe's tokenizer or
    /// model.
    pub fn new(recipe: &'a Recipe, device: &Device, teacher: Option<TeacherCost>) -> Result<Self> {
        let device = device.clone().autodiff();
        let (path, seq_len) = (&recipe.data.tokenizer, recipe.data.seq_len);
        let tokenizer = if path.exists() {
            Some(Tokenizer::from_file(path, None)?)
        } else {
            None
        };
        let config = match (&recipe.model, &tokenizer) {
            (ModelSection::From(section), _) => {
                ModelConfig::from_json_file(&section.from.join("config.json"))?
            }
            (ModelSection::New(config), Some(tokenizer)) => {
                fill_from_tokenizer(config.clone(), tokenizer, seq_len)?
            }
            (ModelSection::New(config), None) if config.vocab_size == 0 => {
                return Err(Error::invalid(
                    path,
                    "is not there, and nothing else says how large the vocabulary is: make the \
                     tokenizer as the recipe's first lines say, or plan with --set \
                     model.vocab_size=N",
                ));
            }
            (ModelSection::New(config), None) => fill_lengths(config.clone(), seq_len)?,
        };
        if let Some(tokenizer) = &tokenizer {
            check_fit(&config, tokenizer, seq_len)?;
        }
        let built = match (&recipe.lora, &tokenizer) {
            (Some(_), Some(tokenizer)) => Some(build_model(recipe, tokenizer, None, &device)?.1),
            (Some(_), None) => {
                let why = "is not there, and with [lora] the model is built to be counted";
                return Err(Error::invalid(path, why));
            }
            (None, _) => None,
        };
        let named = match &built {
            Some(model) => model.named_parameters(),
            None => retort_model::named_parameters(&config),
        };
        let param_groups = param_groups(&recipe.train, named)?;
        let mut plan = Plan::new(recipe, &config, &param_groups, teacher, 0);
        let ids = tokenizer.as_ref().map(Tokenizer::vocab_size);
        if ids.is_none() {
            plan.notes.push(format!(
                "{}: the tokenizer is not there; the vocabulary is taken to be the model's {} ids",
                path.display(),
                config.vocab_size
            ));
        }
        // The teacher's tokenizer is compared with the student's before the teacher runs.
        let run = teacher.filter(|_| tokenizer.is_some());
        Ok(Self {
            probe: choose(recipe, &config, run, Limits::here(&device)),
            ids: ids.unwrap_or(config.vocab_size),
            model: built,
            recipe,
            device,
            config,
            plan,
        })
    }

    /// Adds a sentence about what is not in the plan.
    pub fn note(&mut self, text: String) {
        self.plan.notes.push(text);
    }

    /// Whether the pass can run the teacher: otherwise cross entropy is to be timed in place of the
    /// recipe's own objective.
    pub fn runs_teacher(&self) -> bool {
        self.probe.is_some_and(|probe| probe.teacher)
    }

    /// The plan without hours.
    pub fn counted(self) -> Plan {
        self.plan
    }

    /// The plan with hours from a pass for `objective`, left out where the memory for even the
    /// smallest is not there.
    ///
    /// # Errors
    /// The objective's; a precision that the device does not have.
    pub fn measured(mut self, objective: &dyn Objective) -> Result<Plan> {
        let Some(probe) = self.probe else {
            return Ok(self.plan);
        };
        let model = match self.model.take() {
            Some(model) => model,
            None => self.random(probe.layers)?,
        };
        let model = with_auxiliary_parameters(model, objective, None, 0)?;
        let about = (self.recipe, &self.config);
        self.plan
            .measure(about, probe, &model, objective, self.ids)?;
        Ok(self.plan)
    }

    /// A model of `layers` layers with random weights.
    fn random(&mut self, layers: usize) -> Result<Decoder> {
        let config = with_layers(&self.config, layers);
        let mut init = RandomInit::new(&config, self.recipe.seed);
        let model = Decoder::build(&config, &mut init, &self.device);
        if on_cpu(&self.device) && self.recipe.train.precision != Precision::F32 {
            self.plan.notes.push(format!(
                "the pass was timed in float32, not {}, which no processor here computes faster",
                self.recipe.train.precision.torch_name()
            ));
            return Ok(model.with_fake_quantization(self.recipe.quantize)?);
        }
        with_recipe_numerics(model, self.recipe)
    }
}

impl Prepared {
    /// What the rest of the run will take, its hours from a pass of its own model.
    ///
    /// # Errors
    /// The objective's.
    pub fn plan(&self, objective: &dyn Objective) -> Result<Plan> {
        let (recipe, config) = (&self.recipe, &self.config);
        let mut plan = Plan::new(recipe, config, &self.param_groups, None, self.state.step);
        let limits = Limits {
            bytes: None,
            ..Limits::here(&self.device)
        };
        // The model is whole; if a row of it takes long, so will the run.
        let rows = choose(recipe, config, None, limits).map_or(1, |probe| probe.rows);
        let probe = Probe {
            rows,
            layers: config.num_hidden_layers,
            teacher: true,
        };
        let model = with_auxiliary_parameters(self.model.clone(), objective, None, 0)?;
        let ids = self.tokenizer.vocab_size();
        plan.measure((recipe, config), probe, &model, objective, ids)?;
        Ok(plan)
    }
}
