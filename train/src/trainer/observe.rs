//! What is learned of the weights between steps: validation loss, tasks, samples. Training is not affected.

use std::time::Instant;

use burn::module::Module;
use retort_model::{Decoder, generate};

use super::event::Event;
use super::running::Running;
use crate::error::{Error, Result};
use crate::eval_hook::TaskEvaluation;
use crate::evaluate::{Validation, evaluate};
use crate::metrics::Evaluation;
use crate::run_log::Sample;

impl Running {
    /// The loss of the weights, and of their average, on the validation rows; `None` if there are no rows.
    pub(super) fn validate(&self) -> Option<Evaluation> {
        let p = &self.prepared;
        let rows = p.data.validation();
        if rows.is_empty() {
            return None;
        }
        let t = &p.recipe.train;
        let of = |model: &Decoder| -> Validation {
            evaluate(
                model,
                rows,
                self.validation_bytes,
                t.batch_size,
                t.document_attention,
                &model.norm.gamma.val().device(),
            )
        };
        let (model, ema) = (of(&p.model.valid()), p.ema.as_ref().map(of));
        let (step, tokens) = (p.state.step, p.state.tokens);
        Some(Evaluation::new(step, tokens, &model, ema.as_ref()))
    }

    pub(super) fn evaluate(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        self.last_evaluation = self.validate();
        if let Some(evaluation) = &self.last_evaluation {
            self.prepared.state.validation_loss = Some(evaluation.validation_loss);
            if let Some(log) = &mut self.log {
                log.evaluation(evaluation)?;
            }
            on_event(Event::Evaluated(evaluation));
        }
        Ok(())
    }

    /// Evaluates the weights on the recipe's tasks.
    pub(super) fn evaluate_tasks(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let p = &self.prepared;
        let Some(evaluator) = &p.evaluator else {
            return Ok(());
        };
        let start = Instant::now();
        let tasks = evaluator.evaluate(&p.model.valid(), &p.tokenizer);
        let evaluation = TaskEvaluation {
            step: p.state.step,
            tokens: p.state.tokens,
            tasks: tasks.map_err(Error::Tasks)?,
            tasks_seconds: start.elapsed().as_secs_f64(),
        };
        if let Some(log) = &mut self.log {
            log.tasks(&evaluation)?;
        }
        on_event(Event::TasksEvaluated(&evaluation));
        Ok(())
    }

    /// Continues the recipe's prompts, with a random generator of its own.
    pub(super) fn sample(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let p = &self.prepared;
        let t = &p.recipe.train;
        let model = p.model.valid();
        let device = model.norm.gamma.val().device();
        for (i, prompt) in t.sample_prompts.iter().enumerate() {
            let mut ids = p.tokenizer.encode(prompt)?;
            if ids.is_empty() {
                // As if after the end of another document.
                ids.push(p.tokenizer.eot());
            }
            let mut more = Vec::new();
            let how = (t.sample_temperature, p.recipe.seed + i as u64);
            generate(
                &p.config,
                &model,
                &device,
                &ids,
                t.sample_tokens,
                how,
                |id| {
                    more.push(id);
                    true
                },
            );
            let sample = Sample {
                step: p.state.step,
                tokens: p.state.tokens,
                prompt: prompt.clone(),
                text: p.tokenizer.decode_continuation(&ids, &more)?,
            };
            if let Some(log) = &mut self.log {
                log.sample(&sample)?;
            }
            on_event(Event::Sampled(&sample));
        }
        Ok(())
    }
}
