//! The loop: batches in, updates, evaluations, metrics and checkpoints out.
//!
//! What a step does depends on the recipe and the state only, never on the clock, so a run
//! stopped anywhere and resumed ends in the same weights.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use retort_data::{Batch, Loaded, Loader, Rank};
use retort_model::{Decoder, generate};

use crate::checkpoint::{self, Contents, Keep, Writer};
use crate::ema;
use crate::error::{Error, Result};
use crate::evaluate::{Validation, evaluate, target_bytes};
use crate::examine::Examination;
use crate::guard::Skip;
use crate::journal::{Journal, Sample};
use crate::memory::keep_freed_memory;
use crate::metrics::{Evaluation, Metrics};
use crate::objective::Objective;
use crate::optimizer::{learning_rates, optimizer};
use crate::parallel::{Ranks, share};
use crate::pass::with_beside;
use crate::run::Prepared;
use crate::schedule::learning_rate;
use crate::step::gradients_of_all;

/// What the loop tells whoever shows progress.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was done.
    Step(&'a Metrics),
    /// A step's batch was passed over.
    Skipped(u64, Skip),
    /// The validation split was evaluated.
    Evaluated(&'a Evaluation),
    /// The weights were asked the recipe's tasks.
    Examined(&'a Examination),
    /// A prompt of the recipe was continued.
    Sampled(&'a Sample),
    /// A checkpoint is complete.
    Checkpoint(&'a std::path::Path),
}

/// How a call of [`train`] ended.
#[derive(Debug)]
pub struct Outcome {
    /// Steps done in all.
    pub step: u64,
    /// Tokens trained on in all.
    pub tokens: u64,
    /// Seconds trained in all, without data preparation and evaluation.
    pub seconds: f64,
    /// Batches passed over in all.
    pub skipped: u64,
    /// Whether `stop` ended it before the recipe's last step.
    pub stopped: bool,
    /// The checkpoint of the last step.
    pub checkpoint: PathBuf,
    /// The last evaluation, if there is a validation split and the run is complete.
    pub validation: Option<Evaluation>,
}

/// Trains until the recipe's last step, or until `stop` is set: then a checkpoint is
/// written after the current step and nothing is lost.
///
/// # Errors
/// Too many batches in a row whose loss is no number or leaps; a file that cannot be written.
pub fn train(
    prepared: Prepared,
    objective: &dyn Objective,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    keep_freed_memory();
    let mut run = Running::start(prepared, objective)?;
    let mut writer = Writer::default();
    let mut stopped = false;
    let steps = run.prepared.recipe.train.steps;
    let leads = run.prepared.world.leads();
    // The last step after which all ranks had the same weights.
    let mut before = run.prepared.state.step;
    while run.prepared.state.step < steps && !stopped {
        run = run.step(objective, stop, on_event)?;
        let Some(agreed) = run.met else {
            continue;
        };
        let step = run.prepared.state.step;
        // One rank by itself also hears what is asked while it tells of the step.
        let alone = run.prepared.world.size() == 1;
        stopped = (agreed || alone && stop.load(Ordering::Relaxed)) && step < steps;
        let t = &run.prepared.recipe.train;
        let last = step == steps;
        let due = |step: u64, every: u64| every > 0 && step / every > before / every;
        let tasks = run.prepared.recipe.tasks.as_ref();
        let examination = tasks.is_some_and(|tasks| due(step, tasks.every) || last);
        let (evaluation, sampling, saving) = (
            due(step, t.eval_every) || last,
            due(step, t.sample_every),
            due(step, t.checkpoint_every) || last || stopped,
        );
        before = step;
        // The others wait in what all do next.
        if evaluation && leads {
            run.evaluate(on_event)?;
        }
        if examination && leads {
            run.examine(on_event)?;
        }
        if sampling && leads {
            run.sample(on_event)?;
        }
        let mut complete = writer.poll()?;
        if saving {
            let contents = run.contents()?;
            if let Some(journal) = &run.journal {
                journal.sync()?;
                let t = &run.prepared.recipe.train;
                let keep = Keep {
                    newest: t.keep_checkpoints,
                    best: t.keep_best,
                };
                let before = writer.start(&run.prepared.run, contents, keep)?;
                complete = complete.or(before);
            }
        }
        if let Some(path) = complete {
            on_event(Event::Checkpoint(&path));
        }
    }
    if let Some(path) = writer.finish()? {
        on_event(Event::Checkpoint(&path));
    }
    let directory = &run.prepared.run;
    let checkpoint = match leads {
        true => checkpoint::latest(directory)?
            .ok_or_else(|| Error::invalid(directory, "holds no checkpoint after training"))?,
        false => checkpoint::path(directory, run.prepared.state.step),
    };
    if run.last.is_none() && !stopped && leads {
        run.last = run.validate();
    }
    let state = run.prepared.state;
    Ok(Outcome {
        step: state.step,
        tokens: state.tokens,
        seconds: state.seconds,
        skipped: state.guard.skipped,
        stopped,
        checkpoint,
        validation: run.last,
    })
}

/// A run under way.
struct Running {
    prepared: Prepared,
    ranks: Ranks,
    loader: Loader,
    /// Forward passes of a step on this rank.
    passes: usize,
    /// Only rank 0 has it.
    journal: Option<Journal>,
    /// Whether any rank was asked to stop; nothing after a step after which the ranks did not meet.
    met: Option<bool>,
    /// Bytes that this rank had sent when the ranks last said so.
    sent: u64,
    /// Bytes of text in the validation rows' targets.
    validation_bytes: u64,
    /// The last evaluation.
    last: Option<Evaluation>,
}

impl Running {
    fn start(mut prepared: Prepared, objective: &dyn Objective) -> Result<Self> {
        let begun = match prepared.state.step {
            _ if !prepared.world.leads() => None,
            0 => None,
            _ => checkpoint::latest(&prepared.run)?,
        };
        let seed = prepared.recipe.seed;
        let beside = with_beside(prepared.model, objective, begun.as_deref(), seed)?;
        let t = &prepared.recipe.train;
        let world = prepared.world.clone();
        let (ranks, model, optimizer) = Ranks::start(
            &world,
            (t, &prepared.rules),
            begun.as_deref(),
            &mut prepared.state,
            beside,
            prepared.optimizer,
        )?;
        (prepared.model, prepared.optimizer) = (model, optimizer);
        let (rows, passes) = share(t, world.size())?;
        let rank = Rank {
            index: world.rank(),
            count: world.size(),
        };
        let batches = prepared
            .data
            .batches(rows, rank, Some(&prepared.state.cursor))?;
        let journal = || Journal::open(&prepared.run, prepared.state.step);
        Ok(Self {
            ranks,
            passes,
            journal: world.leads().then(journal).transpose()?,
            loader: Loader::start(batches)?,
            met: None,
            sent: world.sent(),
            validation_bytes: target_bytes(prepared.data.validation(), &prepared.tokenizer),
            last: None,
            prepared,
        })
    }

    /// One step: an update, or a batch passed over.
    fn step(
        mut self,
        objective: &dyn Objective,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self> {
        let start = Instant::now();
        // Not a reference to it: the model moves into the update and out again, so that
        // nobody else holds its tensors.
        let mut p = self.prepared;
        let t = &p.recipe.train;
        let loaded = load(&mut self.loader, self.passes)?;
        let batches: Vec<&Batch> = loaded.iter().map(|l| &l.batch).collect();
        let now = (&batches[..], p.state.step);
        let turn = objective.turn(p.state.step);
        if turn.fresh {
            p.optimizer = optimizer(t, &p.rules);
            p.state.guard.forget();
        }
        let ranks = self.ranks.synchronous();
        let found = gradients_of_all(&p.model, objective, now, t, &p.device, ranks)?;
        let (step, loss, grad_norm) = (p.state.step + 1, found.loss, found.norm);
        let lr = learning_rate(t, step) * turn.lr_scale;
        let skip = p.state.guard.judge(t, loss, grad_norm);
        if skip.is_none() {
            let rates = learning_rates(lr, &p.rules);
            p.model = p.optimizer.step(rates, p.model, found.grads);
            if let Some(ranks) = ranks {
                p.model = ranks.share(p.model, &found.updated);
            }
            p.ema = p
                .ema
                .take()
                .map(|average| ema::moved(average, &p.model, t.ema_decay, step));
        } else if p.state.guard.in_a_row >= t.max_skipped {
            return Err(Error::Diverged {
                in_a_row: p.state.guard.in_a_row,
                step,
                loss,
                grad_norm,
            });
        }
        p.device.sync().map_err(|e| Error::invalid(&p.run, e))?;

        let mut metrics = Metrics {
            step,
            tokens: p.state.tokens + found.tokens,
            loss,
            lr,
            grad_norm,
            skipped: p.state.guard.skipped,
            tokens_per_second: 0.0,
            seconds: 0.0,
            data_seconds: loaded.iter().map(|l| l.waited.as_secs_f64()).sum(),
            sent_bytes: None,
            parts: found.parts,
        };
        p.state.step = step;
        p.state.validation_loss = None;
        p.state.cursor = loaded[loaded.len() - 1].cursor.clone();
        let mut apart = false;
        if let Ranks::Apart(ranks) = &mut self.ranks {
            match ranks.meet_after(step, step == t.steps) {
                true => p.model = ranks.meet(p.model),
                false => apart = true,
            }
        }
        self.met = (!apart).then(|| stop.load(Ordering::Relaxed));
        if p.world.size() > 1 && !apart {
            let (sent, asked) = (p.world.sent(), self.met == Some(true));
            let mine = [f64::from(u8::from(asked)), (sent - self.sent) as f64];
            let all = p.world.gather_numbers(&mine);
            self.sent = sent;
            self.met = Some(all.iter().any(|each| each[0] > 0.0));
            metrics.sent_bytes = Some(all.iter().map(|each| each[1] as u64).sum());
        }
        let elapsed = start.elapsed().as_secs_f64();
        p.state.seconds += elapsed;
        metrics.seconds = p.state.seconds;
        metrics.tokens_per_second = found.tokens as f64 / elapsed;
        let (shown, lines) = match &mut self.ranks {
            Ranks::Apart(ranks) => {
                let shown = ranks.note(metrics, found.tokens);
                (
                    shown,
                    if apart {
                        Vec::new()
                    } else {
                        ranks.together(p.state.tokens)
                    },
                )
            }
            _ => (metrics.clone(), vec![metrics]),
        };
        p.state.tokens = lines.last().map_or(p.state.tokens, |line| line.tokens);
        for line in &lines {
            if let Some(journal) = &mut self.journal {
                journal.step(line)?;
            }
        }
        if p.world.leads() {
            if let Some(skip) = skip {
                on_event(Event::Skipped(step, skip));
            }
            on_event(Event::Step(&shown));
        }
        self.prepared = p;
        Ok(self)
    }

    /// The weights, and their average, on the validation rows, if there are any.
    fn validate(&self) -> Option<Evaluation> {
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

    fn evaluate(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        self.last = self.validate();
        if let Some(evaluation) = &self.last {
            self.prepared.state.validation_loss = Some(evaluation.validation_loss);
            if let Some(journal) = &mut self.journal {
                journal.evaluation(evaluation)?;
            }
            on_event(Event::Evaluated(evaluation));
        }
        Ok(())
    }

    /// Asks the weights what the recipe's tasks ask.
    fn examine(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let p = &self.prepared;
        let Some(examiner) = &p.examiner else {
            return Ok(());
        };
        let start = Instant::now();
        let found = examiner.examine(&p.model.valid(), &p.tokenizer);
        let examination = Examination {
            step: p.state.step,
            tokens: p.state.tokens,
            tasks: found.map_err(Error::Tasks)?,
            tasks_seconds: start.elapsed().as_secs_f64(),
        };
        if let Some(journal) = &mut self.journal {
            journal.examination(&examination)?;
        }
        on_event(Event::Examined(&examination));
        Ok(())
    }

    /// Continues the recipe's prompts, with a random generator of its own: training does not
    /// notice.
    fn sample(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
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
                text: p.tokenizer.decode(&more)?,
            };
            if let Some(journal) = &mut self.journal {
                journal.sample(&sample)?;
            }
            on_event(Event::Sampled(&sample));
        }
        Ok(())
    }

    /// What a checkpoint of now holds, on rank 0.
    fn contents(&self) -> Result<Contents> {
        let p = &self.prepared;
        let adapters = p.recipe.adapters();
        let rules = (&p.recipe.train, &p.rules[..]);
        let (optimizer, apart) =
            self.ranks
                .collected(&p.world, rules, &p.optimizer, &p.state.guard)?;
        Ok(Contents {
            config: p.config.clone(),
            model: p.model.valid(),
            ema: p.ema.clone(),
            adapters: adapters.map(|(lora, base)| (lora.clone(), base.to_owned())),
            tokenizer: p.tokenizer.clone(),
            optimizer,
            apart,
            state: p.state.clone(),
        })
    }
}

/// The batches of one step.
fn load(loader: &mut Loader, n: usize) -> Result<Vec<Loaded>> {
    (0..n).map(|_| Ok(loader.next_batch()?)).collect()
}
