//! One step of a run: batches, gradients, an update of the weights or a skipped batch, and the step's metrics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use retort_data::{Batch, Loaded};

use super::event::Event;
use super::running::Running;
use crate::distributed::Strategy;
use crate::ema;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::objective::Objective;
use crate::optimizer::{learning_rates, optimizer};
use crate::schedule::learning_rate;
use crate::step::gradients_of_all_ranks;

impl Running {
    /// One step: an update, or a batch passed over.
    pub(super) fn step(
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
        let loaded: Vec<Loaded> = (0..self.passes)
            .map(|_| Ok(self.loader.next_batch()?))
            .collect::<Result<_>>()?;
        let batches: Vec<&Batch> = loaded.iter().map(|l| &l.batch).collect();
        let now = (&batches[..], p.state.step);
        let settings = objective.update_settings(p.state.step);
        if settings.reset_optimizer {
            p.optimizer = optimizer(t, &p.param_groups);
            p.state.loss_spike.reset();
        }
        let zero1 = self.strategy.zero1();
        let found = gradients_of_all_ranks(&p.model, objective, now, t, &p.device, zero1)?;
        let (step, loss, grad_norm) = (p.state.step + 1, found.loss, found.norm);
        let lr = learning_rate(t, step) * settings.lr_scale;
        let skip = p.state.loss_spike.check(t, loss, grad_norm);
        if skip.is_none() {
            let rates = learning_rates(lr, &p.param_groups);
            p.model = p.optimizer.step(rates, p.model, found.grads);
            if let Some(zero1) = zero1 {
                p.model = zero1.all_gather_weights(p.model, &found.updated);
            }
            p.ema = p
                .ema
                .take()
                .map(|average| ema::moved(average, &p.model, t.ema_decay, step));
        } else if p.state.loss_spike.in_a_row >= t.max_skipped {
            return Err(Error::Diverged {
                in_a_row: p.state.loss_spike.in_a_row,
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
            skipped: p.state.loss_spike.skipped,
            tokens_per_second: 0.0,
            seconds: 0.0,
            data_seconds: loaded.iter().map(|l| l.waited.as_secs_f64()).sum(),
            sent_bytes: None,
            parts: found.parts,
        };
        p.state.step = step;
        p.state.validation_loss = None;
        p.state.cursor = loaded[loaded.len() - 1].cursor.clone();
        let mut synchronized = true;
        if let Strategy::Diloco(run) = &mut self.strategy {
            synchronized = run.outer.synchronizes_after(step, step == t.steps);
            if synchronized {
                p.model = run.outer.synchronize(p.model);
            }
        }
        self.stop_requested = synchronized.then(|| stop.load(Ordering::Relaxed));
        if p.group.size() > 1 && synchronized {
            let (sent, stop) = (p.group.sent_bytes(), self.stop_requested == Some(true));
            let mine = [f64::from(u8::from(stop)), (sent - self.sent_bytes) as f64];
            let all = p.group.all_gather_f64(&mine);
            self.sent_bytes = sent;
            self.stop_requested = Some(all.iter().any(|each| each[0] > 0.0));
            metrics.sent_bytes = Some(all.iter().map(|each| each[1] as u64).sum());
        }
        let elapsed = start.elapsed().as_secs_f64();
        p.state.seconds += elapsed;
        metrics.seconds = p.state.seconds;
        metrics.tokens_per_second = found.tokens as f64 / elapsed;
        let (shown, lines) = match &mut self.strategy {
            Strategy::Diloco(run) => {
                let shown = run.steps.push(metrics, found.tokens, p.group.size());
                let lines = if synchronized {
                    run.steps.take_merged(&p.group, p.state.tokens)
                } else {
                    Vec::new()
                };
                (shown, lines)
            }
            _ => (metrics.clone(), vec![metrics]),
        };
        p.state.tokens = lines.last().map_or(p.state.tokens, |line| line.tokens);
        for line in &lines {
            if let Some(log) = &mut self.log {
                log.step(line)?;
            }
        }
        if p.group.is_main() {
            if let Some(skip) = skip {
                on_event(Event::Skipped(step, skip));
            }
            on_event(Event::Step(&shown));
        }
        self.prepared = p;
        Ok(self)
    }
}
