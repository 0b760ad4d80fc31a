//! One step of the scheduler: the tokens that go through the model together, and the tokens that
//! follow from their logits.

use std::time::Instant;

use super::running::{Finish, Running};
use super::worker::{Worker, timeout_message};
use retort_engine::decoder::Sequence;
use retort_engine::logprobs::Logprob;
use retort_format::{Error, Result};

/// Tokens of prompts in a forward pass with tokens of answers, and in one without.
const PREFILL_BUSY: usize = 64;
const PREFILL_IDLE: usize = 256;
/// Tokens of prompts come in multiples of this, which the kernels compute together.
const PREFILL_MULTIPLE: usize = 8;
/// Rows of logits computed together for the log-probabilities of prompts.
const LOGIT_ROWS: usize = 32;

impl Worker<'_> {
    /// How many tokens of each running request go through the next forward pass.
    fn token_shares(&mut self) -> Vec<usize> {
        let mut running = self.running.iter();
        let busy = running.any(|running| !running.answer().is_empty());
        let mut budget = if busy { PREFILL_BUSY } else { PREFILL_IDLE };
        let mut shares: Vec<usize> = vec![0; self.running.len()];
        let mut prefilling: Vec<usize> = Vec::new();
        for (i, running) in self.running.iter().enumerate() {
            match (&running.finish, running.prompt_left()) {
                (Some(_), _) => {}
                (None, 0) => shares[i] = 1,
                (None, _) => prefilling.push(i),
            }
        }
        self.turn = self.turn.wrapping_add(1);
        if !prefilling.is_empty() {
            let first = self.turn % prefilling.len();
            prefilling.rotate_left(first);
        }
        // equal shares; the rest of a short prompt's share goes to the others
        while budget >= PREFILL_MULTIPLE && !prefilling.is_empty() {
            let part = (budget / prefilling.len()).max(1);
            let part = part.next_multiple_of(PREFILL_MULTIPLE);
            prefilling.retain(|&i| {
                let left = self.running[i].prompt_left();
                let more = part.min(budget).min(left - shares[i]);
                shares[i] += more;
                budget -= more;
                shares[i] < left
            });
        }
        shares
    }

    /// One forward pass for all running requests, and what follows from it.
    pub(super) fn step(&mut self) {
        for running in &mut self.running {
            if running.events.is_closed() {
                running.finish.get_or_insert(Finish::Cancelled);
            } else if running.submitted.elapsed() > self.limits.timeout {
                let late = Finish::Failed(timeout_message(self.limits));
                running.finish.get_or_insert(late);
            }
        }
        let shares = self.token_shares();
        let mut chunks: Vec<Vec<u32>> = Vec::new();
        // guesses are worth it while a pass has room for them
        let guess = self.running.len() == 1;
        for (running, &n) in self.running.iter_mut().zip(&shares) {
            chunks.push(running.next_tokens(n, self.model, guess));
        }
        let mut work: Vec<(&mut Sequence, &[u32])> = (self.running.iter_mut().zip(&chunks))
            .filter(|(_, tokens)| !tokens.is_empty())
            .map(|(running, tokens)| (&mut running.sequence, &tokens[..]))
            .collect();
        if work.is_empty() {
            return;
        }
        let passed = self.batch.forward(&mut work);
        self.metrics.passes.inc();
        if let Err(error) = passed {
            self.fail_all(&error);
            return;
        }
        // the first row of each running request's chunk
        let mut firsts = Vec::with_capacity(shares.len());
        let mut row = 0;
        for tokens in &chunks {
            firsts.push(row);
            row += tokens.len();
        }
        let collected = self.collect_prompts(&firsts, &chunks);
        if let Err(error) = collected.and_then(|()| self.sample(&firsts, &chunks)) {
            self.fail_all(&error);
        }
        for (running, tokens) in self.running.iter_mut().zip(&chunks) {
            if !tokens.is_empty()
                && running.prompt_left() == 0
                && running.path.len() < running.prompt_pages()
            {
                let share = running.cache_pages(&mut self.cache, &self.model.engine);
                running.reserved -= share;
            }
        }
    }

    /// Ends all requests: an error of a forward pass belongs to all of them.
    fn fail_all(&mut self, error: &Error) {
        for running in &mut self.running {
            let failed = Finish::Failed(error.to_string());
            running.finish.get_or_insert(failed);
        }
    }

    /// Collects what requests need of every position of their prompts: log-probabilities, and the
    /// sum of the hidden states.
    fn collect_prompts(&mut self, firsts: &[usize], chunks: &[Vec<u32>]) -> Result<()> {
        let vocab_size = self.model.engine.config().vocab_size;
        let width = self.model.engine.config().hidden_size;
        let mut states = None;
        for ((running, &first), tokens) in self.running.iter_mut().zip(firsts).zip(chunks) {
            if tokens.is_empty() || running.finish.is_some() {
                continue;
            }
            match (&running.decoding, running.prompt_logprobs) {
                (None, _) => {
                    let states = states.get_or_insert_with(|| self.batch.states());
                    let states = &states[first * width..][..tokens.len() * width];
                    running.sum.resize(width, 0.0);
                    for state in states.chunks_exact(width) {
                        for (sum, x) in running.sum.iter_mut().zip(state) {
                            *sum += x;
                        }
                    }
                }
                (Some(decoding), Some(n)) if decoding.answer().is_empty() => {
                    // where the chunk lies in the prompt
                    let start = running.sequence.len() - tokens.len();
                    for from in (0..tokens.len()).step_by(LOGIT_ROWS) {
                        let to = (from + LOGIT_ROWS).min(tokens.len());
                        let rows = self.batch.logits(first + from..first + to)?;
                        for (i, logits) in rows.chunks_exact(vocab_size).enumerate() {
                            if let Some(&id) = running.prompt.get(start + from + i + 1) {
                                running.logprobs.push(Logprob::of(id, logits, n));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Samples the next tokens of every answer whose prompt is done.
    fn sample(&mut self, firsts: &[usize], chunks: &[Vec<u32>]) -> Result<()> {
        let vocab_size = self.model.engine.config().vocab_size;
        let ready = |running: &Running, tokens: &[u32]| {
            !tokens.is_empty() && running.finish.is_none() && running.prompt_left() == 0
        };
        let mut rows = Vec::new();
        let mut counts = Vec::new();
        for ((running, &first), tokens) in self.running.iter_mut().zip(firsts).zip(chunks) {
            if !ready(running, tokens) {
                continue;
            }
            if (running.decoding.as_ref()).is_none_or(|decoding| decoding.end().is_some()) {
                running.finish_without_answer();
                continue;
            }
            // of a prompt the last token's row, of an answer also those of its guesses
            let count = if running.answer().is_empty() {
                1
            } else {
                tokens.len()
            };
            let end = first + tokens.len();
            rows.extend(end - count..end);
            counts.push(count);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let mut logits = self.batch.logits(rows)?;
        let sampling = (self.running.iter_mut().zip(chunks))
            .filter(|(running, tokens)| ready(running, tokens))
            .map(|(running, _)| running);
        let mut samples = Vec::new();
        for (running, count) in sampling.zip(counts) {
            let rows;
            (rows, logits) = logits.split_at(count * vocab_size);
            samples.push((running, rows, 0));
        }
        let model = self.model;
        // constraints and long vocabularies cost enough to be shared out
        model.engine.pool().rows(&mut samples, 1, 1, |_, sample| {
            let (running, rows, count) = &mut sample[0];
            *count = running.sample(rows, model);
        });
        let metrics = self.metrics;
        for (running, _, count) in &mut samples {
            let now = Instant::now();
            for _ in 0..*count {
                let (histogram, since) = match running.emitted {
                    0 => (&metrics.first_token, running.submitted),
                    _ => (&metrics.next_token, running.last_token),
                };
                histogram.observe((now - since).as_secs_f64());
                running.emitted += 1;
                running.last_token = now;
                metrics.answer_tokens.inc();
            }
        }
        Ok(())
    }
}
