//! A pass: which tokens go through the engine together, and what they bring.

use std::time::Instant;

use super::running::{Active, Over};
use super::worker::{Worker, late};
use super::{Logprob, Task};
use retort_engine::decoder::Sequence;

/// Tokens of prompts in a pass that answers wait for, and in one that none waits for.
const BUSY: usize = 64;
const QUIET: usize = 256;
/// Tokens of prompts come in multiples of this, which the kernels take together.
const GRAIN: usize = 8;
/// Rows of logits computed together for the probabilities of prompts.
const LOGIT_ROWS: usize = 32;

impl Worker<'_> {
    /// How many tokens of each active request go through the next pass.
    fn shares_of_pass(&mut self) -> Vec<usize> {
        let answering = self.active.iter().any(|active| !active.answer.is_empty());
        let mut budget = if answering { BUSY } else { QUIET };
        let mut shares: Vec<usize> = vec![0; self.active.len()];
        let mut reading: Vec<usize> = Vec::new();
        for (i, active) in self.active.iter().enumerate() {
            match (&active.over, active.unread()) {
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
                let more = part.min(budget).min(self.active[i].unread() - shares[i]);
                shares[i] += more;
                budget -= more;
                shares[i] < self.active[i].unread()
            });
        }
        shares
    }

    /// One pass of the engine, and what it brings.
    pub(super) fn pass(&mut self) {
        for active in self
            .active
            .iter_mut()
            .filter(|active| active.over.is_none())
        {
            if active.events.is_closed() {
                active.over = Some(Over::Cancelled);
            } else if active.since.elapsed() > self.limits.timeout {
                active.over = Some(Over::Failed(late(self.limits)));
            }
        }
        let shares = self.shares_of_pass();
        let mut pieces: Vec<Vec<u32>> = Vec::new();
        for (active, &n) in self.active.iter().zip(&shares) {
            pieces.push(active.next_tokens(n));
        }
        let mut work: Vec<(&mut Sequence, &[u32])> = (self.active.iter_mut().zip(&pieces))
            .filter(|(_, tokens)| !tokens.is_empty())
            .map(|(active, tokens)| (&mut active.sequence, &tokens[..]))
            .collect();
        if work.is_empty() {
            return;
        }
        let passed = self.batch.forward(&mut work);
        self.shared.metrics.passes.add(1);
        if let Err(error) = passed {
            // nothing of the pass can be told apart
            for active in &mut self.active {
                active.over.get_or_insert(Over::Failed(error.to_string()));
            }
            return;
        }
        // the first row of each active request's piece
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
            for active in &mut self.active {
                active.over.get_or_insert(Over::Failed(error.to_string()));
            }
        }
        for (active, tokens) in self.active.iter_mut().zip(&pieces) {
            if !tokens.is_empty()
                && active.unread() == 0
                && active.path.len() < active.prompt_pages()
            {
                let share = active.shared_pages(&mut self.pages, &self.model.engine);
                active.reserved -= share;
            }
        }
    }

    /// What is asked of prompts at every position: probabilities, and the sum of states.
    fn gather(&mut self, firsts: &[usize], pieces: &[Vec<u32>]) -> retort_format::Result<()> {
        let vocab_size = self.model.engine.config().vocab_size;
        let mut states = None;
        for ((active, &first), tokens) in self.active.iter_mut().zip(firsts).zip(pieces) {
            if tokens.is_empty() || active.over.is_some() {
                continue;
            }
            match &active.request.task {
                Task::Embed => {
                    let width = self.model.engine.config().hidden_size;
                    let states = states.get_or_insert_with(|| self.batch.states());
                    active.sum.resize(width, 0.0);
                    for state in states[first * width..][..tokens.len() * width].chunks_exact(width)
                    {
                        for (sum, x) in active.sum.iter_mut().zip(state) {
                            *sum += x;
                        }
                    }
                }
                Task::Generate(generate)
                    if generate.prompt_logprobs && active.answer.is_empty() =>
                {
                    let n = generate.logprobs.unwrap_or(0);
                    // where the piece lies in the prompt
                    let start = active.sequence.len() - tokens.len();
                    for from in (0..tokens.len()).step_by(LOGIT_ROWS) {
                        let to = (from + LOGIT_ROWS).min(tokens.len());
                        let rows = self.batch.logits(first + from..first + to)?;
                        for (i, logits) in rows.chunks_exact(vocab_size).enumerate() {
                            if let Some(&id) = active.request.prompt.get(start + from + i + 1) {
                                active.logprobs.push(Logprob::of(id, logits, n));
                            }
                        }
                    }
                }
                Task::Generate(_) => {}
            }
        }
        Ok(())
    }

    /// The next token of every answer whose prompt has been read.
    fn choose(&mut self, firsts: &[usize], pieces: &[Vec<u32>]) -> retort_format::Result<()> {
        let vocab_size = self.model.engine.config().vocab_size;
        let ready = |active: &Active, tokens: &[u32]| {
            !tokens.is_empty() && active.over.is_none() && active.unread() == 0
        };
        let mut rows = Vec::new();
        for ((active, &first), tokens) in self.active.iter_mut().zip(firsts).zip(pieces) {
            if ready(active, tokens) {
                match active.sampler.is_some() && active.max_tokens() > 0 {
                    true => rows.push(first + tokens.len() - 1),
                    false => active.finish_without_answer(),
                }
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let logits = self.batch.logits(rows)?;
        let choosing = (self.active.iter_mut().zip(pieces))
            .filter(|(active, tokens)| ready(active, tokens))
            .map(|(active, _)| active);
        let mut choices: Vec<_> = choosing.zip(logits.chunks_exact(vocab_size)).collect();
        let model = self.model;
        // constraints and long vocabularies cost enough to be shared out
        model.engine.pool().rows(&mut choices, 1, 1, |_, choice| {
            let (active, logits) = &mut choice[0];
            active.choose(logits, model);
        });
        let metrics = &self.shared.metrics;
        for (active, _) in &mut choices {
            let now = Instant::now();
            match active.told {
                0 => metrics.first_token.observe(now - active.since),
                _ => metrics.next_token.observe(now - active.last_token),
            }
            active.told += 1;
            active.last_token = now;
            metrics.answer_tokens.add(1);
        }
        Ok(())
    }
}
