//! One step of the scheduler: the tokens that go through the model together, and what follows from their logits.

use std::time::Instant;

use super::running::{Finish, Running};
use super::worker::{Worker, late};
use retort_engine::decoder::Sequence;
use retort_engine::logprobs::Logprob;

/// Tokens of prompts in a pass that answers wait for, and in one that none waits for.
const BUSY: usize = 64;
const QUIET: usize = 256;
/// Tokens of prompts come in multiples of this, which the kernels take together.
const GRAIN: usize = 8;
/// Rows of logits computed together for the probabilities of prompts.
const LOGIT_ROWS: usize = 32;

impl Worker<'_> {
    /// How many tokens of each running request go through the next pass.
    fn shares_of_pass(&mut self) -> Vec<usize> {
        let answering = self
            .running
            .iter()
            .any(|running| !running.answer().is_empty());
        let mut budget = if answering { BUSY } else { QUIET };
        let mut shares: Vec<usize> = vec![0; self.running.len()];
        let mut reading: Vec<usize> = Vec::new();
        for (i, running) in self.running.iter().enumerate() {
            match (&running.finish, running.unread()) {
                (Some(_), _) => {}
                (None, 0) => shares[i] = 1,
                (None, _) => reading.push(i),
            }
        }
        self.turn = self.turn.wrapping_add(1);
        if !reading.is_empty() {
            let first = self.turn % reading.len();
            reading.rotate_left(first);
        }
        // equal parts, and what the short ones leave goes to the others
        while budget >= GRAIN && !reading.is_empty() {
            let part = (budget / reading.len()).max(GRAIN).next_multiple_of(GRAIN);
            reading.retain(|&i| {
                let more = part.min(budget).min(self.running[i].unread() - shares[i]);
                shares[i] += more;
                budget -= more;
                shares[i] < self.running[i].unread()
            });
        }
        shares
    }

    /// One pass of the engine, and what it brings.
    pub(super) fn pass(&mut self) {
        for running in self
            .running
            .iter_mut()
            .filter(|running| running.finish.is_none())
        {
            if running.events.is_closed() {
                running.finish = Some(Finish::Cancelled);
            } else if running.since.elapsed() > self.limits.timeout {
                running.finish = Some(Finish::Failed(late(self.limits)));
            }
        }
        let shares = self.shares_of_pass();
        let mut pieces: Vec<Vec<u32>> = Vec::new();
        // guesses pay while a pass has room for them
        let guess = self.running.len() == 1;
        for (running, &n) in self.running.iter_mut().zip(&shares) {
            pieces.push(running.next_tokens(n, self.model, guess));
        }
        let mut work: Vec<(&mut Sequence, &[u32])> = (self.running.iter_mut().zip(&pieces))
            .filter(|(_, tokens)| !tokens.is_empty())
            .map(|(running, tokens)| (&mut running.sequence, &tokens[..]))
            .collect();
        if work.is_empty() {
            return;
        }
        let passed = self.batch.forward(&mut work);
        self.shared.metrics.passes.add(1);
        if let Err(error) = passed {
            // nothing of the pass can be told apart
            for running in &mut self.running {
                running
                    .finish
                    .get_or_insert(Finish::Failed(error.to_string()));
            }
            return;
        }
        // the first row of each running request's piece
        let mut firsts = Vec::with_capacity(shares.len());
        let mut row = 0;
        for tokens in &pieces {
            firsts.push(row);
            row += tokens.len();
        }
        if let Err(error) = self
            .gather(&firsts, &pieces)
            .and_then(|()| self.choose(&firsts, &pieces))
        {
            for running in &mut self.running {
                running
                    .finish
                    .get_or_insert(Finish::Failed(error.to_string()));
            }
        }
        for (running, tokens) in self.running.iter_mut().zip(&pieces) {
            if !tokens.is_empty()
                && running.unread() == 0
                && running.path.len() < running.prompt_pages()
            {
                let share = running.shared_pages(&mut self.pages, &self.model.engine);
                running.reserved -= share;
            }
        }
    }

    /// What is asked of prompts at every position: probabilities, and the sum of states.
    fn gather(&mut self, firsts: &[usize], pieces: &[Vec<u32>]) -> retort_format::Result<()> {
        let vocab_size = self.model.engine.config().vocab_size;
        let mut states = None;
        for ((running, &first), tokens) in self.running.iter_mut().zip(firsts).zip(pieces) {
            if tokens.is_empty() || running.finish.is_some() {
                continue;
            }
            match (&running.decoding, running.prompt_logprobs) {
                (None, _) => {
                    let width = self.model.engine.config().hidden_size;
                    let states = states.get_or_insert_with(|| self.batch.states());
                    running.sum.resize(width, 0.0);
                    for state in states[first * width..][..tokens.len() * width].chunks_exact(width)
                    {
                        for (sum, x) in running.sum.iter_mut().zip(state) {
                            *sum += x;
                        }
                    }
                }
                (Some(decoding), Some(n)) if decoding.answer().is_empty() => {
                    // where the piece lies in the prompt
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

    /// The next token of every answer whose prompt has been read.
    fn choose(&mut self, firsts: &[usize], pieces: &[Vec<u32>]) -> retort_format::Result<()> {
        let vocab_size = self.model.engine.config().vocab_size;
        let ready = |running: &Running, tokens: &[u32]| {
            !tokens.is_empty() && running.finish.is_none() && running.unread() == 0
        };
        let mut rows = Vec::new();
        let mut counts = Vec::new();
        for ((running, &first), tokens) in self.running.iter_mut().zip(firsts).zip(pieces) {
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
        let choosing = (self.running.iter_mut().zip(pieces))
            .filter(|(running, tokens)| ready(running, tokens))
            .map(|(running, _)| running);
        let mut choices = Vec::new();
        for (running, count) in choosing.zip(counts) {
            let rows;
            (rows, logits) = logits.split_at(count * vocab_size);
            choices.push((running, rows, 0));
        }
        let model = self.model;
        // constraints and long vocabularies cost enough to be shared out
        model.engine.pool().rows(&mut choices, 1, 1, |_, choice| {
            let (running, rows, chosen) = &mut choice[0];
            *chosen = running.choose(rows, model);
        });
        let metrics = &self.shared.metrics;
        for (running, _, chosen) in &mut choices {
            let now = Instant::now();
            for _ in 0..*chosen {
                if running.emitted == 0 {
                    metrics.first_token.observe(now - running.since);
                } else {
                    metrics.next_token.observe(now - running.last_token);
                }
                running.emitted += 1;
                running.last_token = now;
                metrics.answer_tokens.add(1);
            }
        }
        Ok(())
    }
}
