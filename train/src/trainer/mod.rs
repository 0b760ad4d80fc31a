//! The training loop: batches in; updates, evaluations, metrics and checkpoints out.
//!
//! What a step does depends on the recipe and the state only, never on the clock, so a run stopped anywhere and resumed
//! ends in the same weights.

mod event;
mod observe;
mod running;
mod update;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::{self, BackgroundWriter, Retention};
use crate::error::{Error, Result};
use crate::memory::keep_freed_memory;
use crate::objective::Objective;
use crate::run::Prepared;
pub use event::{Event, Outcome};
use running::Running;

/// Trains until the recipe's last step, or until `stop` is set: then a checkpoint is
/// written after the current step and nothing is lost.
///
/// # Errors
/// Too many batches in a row whose loss is not a number or leaps; a file that cannot be written.
pub fn train(
    prepared: Prepared,
    objective: &dyn Objective,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    keep_freed_memory();
    let mut run = Running::start(prepared, objective)?;
    let mut writer = BackgroundWriter::default();
    let mut stopped = false;
    let steps = run.prepared.recipe.train.steps;
    let is_main = run.prepared.group.is_main();
    // The last step after which all ranks had the same weights.
    let mut before = run.prepared.state.step;
    while run.prepared.state.step < steps && !stopped {
        run = run.step(objective, stop, on_event)?;
        let Some(stop_requested) = run.stop_requested else {
            continue;
        };
        let step = run.prepared.state.step;
        // A single rank also sees what was requested while it reported the step.
        let single = run.prepared.group.size() == 1;
        stopped = (stop_requested || single && stop.load(Ordering::Relaxed)) && step < steps;
        let t = &run.prepared.recipe.train;
        let last = step == steps;
        let due = |step: u64, every: u64| every > 0 && step / every > before / every;
        let tasks = run.prepared.recipe.tasks.as_ref();
        let tasks_due = tasks.is_some_and(|tasks| due(step, tasks.every) || last);
        let (evaluation, sampling, saving) = (
            due(step, t.eval_every) || last,
            due(step, t.sample_every),
            due(step, t.checkpoint_every) || last || stopped,
        );
        before = step;
        // The other ranks wait at the next collective operation.
        if evaluation && is_main {
            run.evaluate(on_event)?;
        }
        if tasks_due && is_main {
            run.evaluate_tasks(on_event)?;
        }
        if sampling && is_main {
            run.sample(on_event)?;
        }
        let mut complete = writer.poll()?;
        if saving {
            let contents = run.contents()?;
            if let Some(log) = &run.log {
                log.sync()?;
                let t = &run.prepared.recipe.train;
                let keep = Retention {
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
    let checkpoint = if is_main {
        checkpoint::latest(directory)?
            .ok_or_else(|| Error::invalid(directory, "holds no checkpoint after training"))?
    } else {
        checkpoint::path(directory, run.prepared.state.step)
    };
    if run.last_evaluation.is_none() && !stopped && is_main {
        run.last_evaluation = run.validate();
    }
    let state = run.prepared.state;
    Ok(Outcome {
        step: state.step,
        tokens: state.tokens,
        seconds: state.seconds,
        skipped: state.loss_spike.skipped,
        stopped,
        checkpoint,
        validation: run.last_evaluation,
    })
}
