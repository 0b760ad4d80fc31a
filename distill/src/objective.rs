//! The distillation objective: what a teacher says about a batch and, where the recipe compares
//! them, what it computes on the way there, mixed with the text.

use burn::tensor::{Device, Tensor, TensorData};
use retort_data::Batch;
use retort_model::{Decoder, TeacherLogits};
use retort_tokenizer::Tokenizer;
use retort_train::{BatchTensors, Loss, ModelSection, Objective, Recipe, StepPlan, UpdateSettings};

use crate::blockwise::Blockwise;
use crate::cache::RowFormat;
use crate::config::TeacherConfig;
use crate::error::Result;
use crate::matching::Matching;
use crate::on_policy::OnPolicy;
use crate::open_teacher::open_teacher;
use crate::teacher::{BurnTeacher, Teacher};

/// What `[teacher]` asks for; each loss that counts is a part with its own name.
pub struct Distillation {
    teacher: TeacherAccess,
    config: TeacherConfig,
    matching: Matching,
    blockwise: Option<Blockwise>,
    on_policy: Option<OnPolicy>,
    /// Whether the student has weights to begin with.
    from_checkpoint: bool,
}

/// The opened teacher, by what it returns.
enum TeacherAccess {
    /// Logits.
    LogitsOnly(Box<dyn Teacher>),
    /// Logits and hidden states.
    WithHiddenStates(Box<BurnTeacher>),
}

impl Distillation {
    /// The objective of `config`, for the run of `recipe` and a student with `tokenizer` that
    /// trains on `device`.
    ///
    /// # Errors
    /// Those of [`open_teacher`]; a table that this teacher or this student cannot have.
    pub fn open(
        config: TeacherConfig,
        tokenizer: &Tokenizer,
        device: &Device,
        recipe: &Recipe,
    ) -> Result<Self> {
        let (mut matching, mut blockwise) = (Matching::default(), None);
        let teacher = match config.states_table() {
            None => TeacherAccess::LogitsOnly(open_teacher(
                &config,
                tokenizer,
                device,
                &RowFormat::of(recipe),
            )?),
            Some(table) => {
                let path = config.burn_path(table)?;
                let teacher = BurnTeacher::load(path, tokenizer, device)?;
                let (theirs, ours) = (teacher.config(), student(recipe)?);
                let tables = [config.hidden.as_ref(), config.attention.as_ref()];
                matching = Matching::new(tables[0], tables[1], &ours, theirs)?;
                let phase = config.blockwise.as_ref();
                blockwise = phase
                    .map(|phase| Blockwise::new(phase, &ours, theirs))
                    .transpose()?;
                TeacherAccess::WithHiddenStates(Box::new(teacher))
            }
        };
        let on_policy = config.on_policy.map(|table| {
            let vocabulary = teacher.as_teacher().vocab_size();
            let t = &recipe.train;
            let shape = (t.batch_size * t.accumulate, recipe.data.seq_len);
            OnPolicy::new(table, recipe.seed, shape, tokenizer, vocabulary)
        });
        Ok(Self {
            on_policy: on_policy.transpose()?,
            from_checkpoint: matches!(recipe.model, ModelSection::From(_)),
            teacher,
            config,
            matching,
            blockwise,
        })
    }

    /// What is special about a run of `steps` steps, a line each; nothing where nothing is.
    pub fn plan(&self, steps: u64) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(phase) = &self.blockwise {
            lines.push(format!(
                "block by block in the first {} of {steps} steps: {} parts of the student, each \
                 against the teacher's, learning rate × {}",
                phase.steps.min(steps),
                phase.parts(),
                phase.lr_scale
            ));
            if !self.from_checkpoint {
                lines.push(
                    "the embedding and the head, random here, learn nothing in these steps: they \
                     are for a student that `retort prune` cut out of its teacher"
                        .into(),
                );
            }
        }
        if !self.matching.is_empty() {
            let [hidden, attention] = self.matching.counts();
            let weights: usize = self.matching.shapes().iter().map(|[a, b]| a * b).sum();
            lines.push(format!(
                "hidden states compared in {hidden} pairs of layers, attention in {attention}; \
                 {weights} weights of projections are trained beside the model and not kept in it"
            ));
        }
        if let Some(on_policy) = &self.on_policy {
            let first = self.first_ordinary();
            let count = if steps > first {
                on_policy.count(first, steps - 1)
            } else {
                0
            };
            lines.push(format!(
                "{count} of {steps} steps are on text that the student draws itself; the time below \
                 is without them"
            ));
        }
        lines
    }

    /// The first step after the phase block by block.
    fn first_ordinary(&self) -> u64 {
        self.blockwise.as_ref().map_or(0, |phase| phase.steps)
    }

    /// Whether the update after `step` of them is on the student's own text.
    fn is_on_policy(&self, step: u64) -> Option<&OnPolicy> {
        let here = |o: &&OnPolicy| step >= self.first_ordinary() && o.is_on_policy(step);
        self.on_policy.as_ref().filter(here)
    }

    /// The loss of the student's last layer's output, where the teacher says `teacher_logits`.
    fn outputs(
        &self,
        model: &Decoder,
        hidden: Tensor<3>,
        batch: &BatchTensors,
        teacher_logits: TeacherLogits,
    ) -> Loss {
        let c = &self.config;
        let mut mixture = c.losses.at(batch.step, c.temperature, c.chunk);
        if self.is_on_policy(batch.step).is_some() {
            // What the student drew is no text to learn.
            mixture.cross_entropy = 0.0;
        }
        let (targets, weights) = (batch.targets.clone(), batch.weights.clone());
        let found = model.distillation(hidden, targets, weights, teacher_logits, mixture);
        let [forward, reverse, js, tv] = mixture.divergences();
        // What the text says is worth seeing even where it does not count.
        let counts = [1.0, forward, reverse, js, tv]
            .into_iter()
            .map(|w| w != 0.0);
        let parts = PARTS.into_iter().zip(found.parts).zip(counts);
        let mut parts: Vec<_> = parts
            .filter_map(|(p, counts)| counts.then_some(p))
            .collect();
        if let Some(on_policy) = &self.on_policy {
            let count = on_policy.count(self.first_ordinary(), batch.step);
            let count = TensorData::new(vec![count as f32], [1]);
            let count = Tensor::from_data(count, &batch.weights.device());
            parts.push(("on_policy_steps", count));
        }
        Loss {
            total: found.total,
            parts,
        }
    }
}

impl TeacherAccess {
    fn as_teacher(&self) -> &dyn Teacher {
        match self {
            Self::LogitsOnly(teacher) => &**teacher,
            Self::WithHiddenStates(teacher) => &**teacher,
        }
    }
}

/// The student's shape, as far as the recipe says it.
fn student(recipe: &Recipe) -> Result<retort_format::ModelConfig> {
    Ok(match &recipe.model {
        ModelSection::From(section) => {
            retort_format::ModelConfig::from_json_file(&section.from.join("config.json"))?
        }
        ModelSection::New(config) => config.clone(),
    })
}

/// What the parts are called in `metrics.jsonl`.
const PARTS: [&str; 5] = [
    "cross_entropy",
    "forward_kl",
    "reverse_kl",
    "jensen_shannon",
    "total_variation",
];

impl Objective for Distillation {
    fn step_plan<'a>(
        &'a self,
        model: &'a Decoder,
        batch: &'a BatchTensors,
    ) -> retort_train::Result<StepPlan<'a>> {
        if let (TeacherAccess::WithHiddenStates(teacher), Some(phase)) =
            (&self.teacher, &self.blockwise)
            && batch.step < phase.steps
        {
            let states = teacher.states(batch, &phase.requested_states());
            return Ok(StepPlan::Blockwise(phase.blocks(&states, &batch.weights)));
        }
        if let TeacherAccess::WithHiddenStates(teacher) = &self.teacher
            && !self.matching.is_empty()
        {
            let (teacher_logits, states) =
                teacher.logits_and_states(batch, &self.matching.requested_states());
            return Ok(StepPlan::Forward {
                output: Box::new(move |hidden| {
                    Ok(self.outputs(model, hidden, batch, teacher_logits))
                }),
                layers: Some(Box::new(self.matching.losses(model, batch, states))),
            });
        }
        Ok(StepPlan::output(move |hidden| {
            let teacher_logits = self.teacher.as_teacher().logits(batch);
            let teacher_logits = teacher_logits.map_err(retort_train::Error::objective)?;
            Ok(self.outputs(model, hidden, batch, teacher_logits))
        }))
    }

    fn replace_batches(
        &self,
        model: &Decoder,
        batches: &[&Batch],
        step: u64,
    ) -> retort_train::Result<Option<Vec<Batch>>> {
        // Made-up rows time a pass: they stay.
        let training = batches.iter().all(|b| b.first_row().is_some());
        let on_policy = self.is_on_policy(step).filter(|_| training);
        Ok(on_policy.map(|o| o.batches(model, batches, step)))
    }

    fn auxiliary_parameters(&self) -> Vec<[usize; 2]> {
        self.matching.shapes().to_vec()
    }

    fn update_settings(&self, step: u64) -> UpdateSettings {
        match &self.blockwise {
            Some(phase) if step < phase.steps => UpdateSettings {
                lr_scale: phase.lr_scale,
                reset_optimizer: false,
            },
            Some(phase) if step == phase.steps => UpdateSettings {
                lr_scale: 1.0,
                reset_optimizer: phase.steps > 0,
            },
            _ => UpdateSettings::default(),
        }
    }
}
