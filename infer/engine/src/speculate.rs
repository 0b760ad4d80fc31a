//! Speculative decoding (arXiv 2211.17192), without loss: guessed tokens are checked several at a time.
//!
//! A drafter guesses the next few tokens; the model takes them in together, which reads its weights once, and its
//! own choice is made at every position as if it stood there alone. Guesses are kept up to the first that is not the
//! choice. What comes out is what decoding one by one would have given: the same sampler sees the same logits in the
//! same order. Up to [`MAX_GUESSES`] guesses, the kernels even add in the same order, so that the logits are the same
//! bits.
//!
//! Two drafters: what followed the last few tokens when they stood in the text before ([`Lookup`], free, good where a
//! text repeats itself: code, summaries, extraction), and a smaller model with the same vocabulary ([`DraftModel`]).

use std::sync::Arc;

use crate::decoder::Session;
use crate::model::Model;
use crate::sampling::argmax;
use retort_format::{Error, Result};

/// More tokens than these and the one before them would go through other kernels.
pub const MAX_GUESSES: usize = 5;

/// Guesses what follows.
pub trait Drafter: Send {
    /// Up to `n` guesses at what follows `text`, the whole sequence so far. Fewer, or none, are fine.
    ///
    /// # Errors
    ///
    /// Those of a model that is asked.
    fn draft(&mut self, text: &[u32], n: usize) -> Result<Vec<u32>>;
}

impl<D: Drafter + ?Sized> Drafter for &mut D {
    fn draft(&mut self, text: &[u32], n: usize) -> Result<Vec<u32>> {
        (**self).draft(text, n)
    }
}

/// Who guesses, for every answer of a model.
#[derive(Clone, Debug, Default)]
pub enum Speculation {
    /// Nobody.
    #[default]
    Off,
    /// [`Lookup`].
    Lookup,
    /// A [`DraftModel`] of this model.
    DraftModel(Arc<Model>),
}

impl Speculation {
    /// A drafter for one answer of `target`, in sequences of up to `context` tokens.
    ///
    /// # Errors
    ///
    /// Those of [`DraftModel::new`].
    pub fn drafter(&self, target: &Model, context: usize) -> Result<Option<Box<dyn Drafter + '_>>> {
        Ok(match self {
            Self::Off => None,
            Self::Lookup => Some(Box::new(Lookup::default())),
            Self::DraftModel(draft) => Some(Box::new(DraftModel::new(draft, target, context)?)),
        })
    }
}

/// Guesses by what followed the same few tokens before (prompt lookup decoding).
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// The longest run of tokens that is looked for, and the shortest.
    pub longest: usize,
    /// See `longest`.
    pub shortest: usize,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            longest: 4,
            shortest: 2,
        }
    }
}

impl Drafter for Lookup {
    fn draft(&mut self, text: &[u32], n: usize) -> Result<Vec<u32>> {
        for length in (self.shortest..=self.longest).rev() {
            let Some(start) = text.len().checked_sub(length) else {
                continue;
            };
            let (before, last) = (&text[..text.len() - 1], &text[start..]);
            // the latest place is the likeliest to go on alike
            let place = before.windows(length).rposition(|run| run == last);
            if let Some(place) = place {
                let follows = &text[place + length..];
                return Ok(follows[..n.min(follows.len())].to_vec());
            }
        }
        Ok(Vec::new())
    }
}

/// Guesses by a smaller model's greedy choices.
#[derive(Debug)]
pub struct DraftModel<'m> {
    session: Session<'m>,
    /// What its cache holds.
    taken: Vec<u32>,
}

impl<'m> DraftModel<'m> {
    /// `draft` guesses for `target`, in sequences of up to `context` tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if the two do not have the same tokens, or `draft` has not the context.
    pub fn new(draft: &'m Model, target: &Model, context: usize) -> Result<Self> {
        let (ours, theirs) = (&draft.tokenizer, &target.tokenizer);
        let n = ours.vocab_size().min(theirs.vocab_size()) as u32;
        if let Some(id) = (0..n).find(|&id| ours.bytes(id) != theirs.bytes(id)) {
            let path = draft.engine.gguf().path().display();
            return Err(Error::Argument(format!(
                "{path} cannot draft for this model: token {id} is another one; \
                 take a model with the same tokenizer"
            )));
        }
        let context = context.min(draft.engine.config().context_length);
        Ok(Self {
            session: draft.engine.session(context)?,
            taken: Vec::new(),
        })
    }
}

impl Drafter for DraftModel<'_> {
    fn draft(&mut self, text: &[u32], n: usize) -> Result<Vec<u32>> {
        let known = self.session.engine().config().vocab_size;
        if text.len() + n > self.session.context() || text.iter().any(|&id| id as usize >= known) {
            return Ok(Vec::new());
        }
        let common = self.taken.iter().zip(text).take_while(|(a, b)| a == b);
        // the last token must go in again to have its logits
        let common = common.count().min(text.len().saturating_sub(1));
        self.session.truncate(common);
        self.taken.truncate(common);
        let mut guesses = Vec::new();
        let mut next = text[common..].to_vec();
        while guesses.len() < n && !next.is_empty() {
            let guess = argmax(self.session.forward(&next)?);
            self.taken.extend_from_slice(&next);
            guesses.push(guess);
            next = vec![guess];
        }
        Ok(guesses)
    }
}

/// How guessing went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speculated {
    /// Guesses made.
    pub drafted: usize,
    /// Guesses that were the model's choice.
    pub accepted: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_takes_the_latest_and_longest_run() {
        let mut lookup = Lookup::default();
        let mut draft = |text: &[u32], n| lookup.draft(text, n).unwrap();
        assert_eq!(draft(&[1, 2, 3, 9, 1, 2, 4, 8, 1, 2], 2), [4, 8]);
        // three tokens known beat two
        assert_eq!(draft(&[7, 1, 2, 5, 5, 1, 2, 6, 7, 1, 2], 1), [5]);
        assert_eq!(draft(&[1, 2, 3, 4], 3), [] as [u32; 0]);
        assert_eq!(draft(&[5, 5, 5], 4), [5]);
        assert_eq!(draft(&[1], 4), [] as [u32; 0]);
        assert_eq!(draft(&[], 4), [] as [u32; 0]);
    }
}
