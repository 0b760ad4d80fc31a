//! Scores by a decoder in Burn: requests of similar length share a batch.
//!
//! Requests with the same input, such as single-letter answers to one question, are computed once.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use retort_model::{Decoder, Query, likelihoods};
use retort_tokenizer::Tokenizer;

use super::encoder::{Encoder, Request};
use super::scorer::{Likelihood, Scorer};
use crate::error::{Error, Result};

/// Scores by a decoder, on the decoder's device.
pub struct BurnScorer<'m> {
    model: &'m Decoder,
    tokenizer: &'m Tokenizer,
    encoder: Encoder<'m>,
    max_length: usize,
    batch_tokens: usize,
}

impl<'m> BurnScorer<'m> {
    /// A scorer over `model`, which must be without autodiff; `batch_tokens` ids go in together,
    /// or one request. Its context is its own or, where that is smaller, `max_length`.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the tokenizer cannot encode at all.
    pub fn new(
        model: &'m Decoder,
        tokenizer: &'m Tokenizer,
        max_length: Option<NonZeroUsize>,
        batch_tokens: usize,
    ) -> Result<Self> {
        let (before, after) = tokenizer.around()?;
        let prefix = tokenizer.bos().unwrap_or(tokenizer.eot());
        let encode = |text: &str| Ok(tokenizer.encode(text)?);
        let trained = model.config().max_position_embeddings;
        Ok(Self {
            model,
            tokenizer,
            encoder: Encoder::new(encode, before, after, prefix),
            max_length: max_length.map_or(trained, |most| most.get().min(trained)),
            batch_tokens,
        })
    }
}

/// Requests with the same input.
struct SameInput {
    input: Vec<u32>,
    requests: Vec<usize>,
}

impl Scorer for BurnScorer<'_> {
    fn encoder(&self) -> &Encoder<'_> {
        &self.encoder
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn score(
        &mut self,
        requests: &[Request],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Likelihood>> {
        let rows = self.model.config().vocab_size;
        let mut groups: Vec<SameInput> = Vec::new();
        let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
        for (index, request) in requests.iter().enumerate() {
            let all = request.context.iter().chain(&request.continuation);
            if let Some(id) = all.copied().find(|&id| id as usize >= rows) {
                return Err(Error::Model(format!(
                    "the tokenizer gives id {id}, but the model has {rows} rows; \
                     evaluate it with the tokenizer it was trained with"
                )));
            }
            let input: Vec<u32> = request.input().collect();
            let group = *known.entry(input).or_insert_with_key(|input| {
                groups.push(SameInput {
                    input: input.clone(),
                    requests: Vec::new(),
                });
                groups.len() - 1
            });
            groups[group].requests.push(index);
        }
        // The longest first: little padding, and too little memory shows at once.
        groups.sort_by_key(|group| std::cmp::Reverse(group.input.len()));
        let mut answers: Vec<Option<Likelihood>> = vec![None; requests.len()];
        let (mut rest, mut answered) = (&groups[..], 0);
        while let Some(longest) = rest.first() {
            let together = (self.batch_tokens / longest.input.len()).clamp(1, rest.len());
            let (batch, later) = rest.split_at(together);
            let queries: Vec<Query<'_>> = batch
                .iter()
                .map(|group| Query {
                    ids: &group.input,
                    targets: group
                        .requests
                        .iter()
                        .map(|&index| &requests[index].continuation[..])
                        .collect(),
                })
                .collect();
            for (group, found) in batch.iter().zip(likelihoods(self.model, &queries)) {
                for (&index, found) in group.requests.iter().zip(found) {
                    answers[index] = Some(found);
                    answered += 1;
                }
            }
            done(answered);
            rest = later;
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn write(
        &mut self,
        prompt: &[u32],
        most: usize,
        enough: &mut dyn FnMut(&str) -> bool,
    ) -> Result<String> {
        let (mut ids, mut text, mut problem) = (Vec::new(), String::new(), None);
        let config = self.model.config();
        retort_model::generate(
            config,
            self.model,
            &self.model.embed_tokens.weight.val().device(),
            prompt,
            most,
            (0.0, 0),
            |id| {
                if id == self.tokenizer.eot() {
                    return false;
                }
                ids.push(id);
                match self.tokenizer.decode(&ids) {
                    Ok(written) => text = written,
                    Err(e) => problem = Some(e),
                }
                problem.is_none() && !enough(&text)
            },
        );
        match problem {
            Some(problem) => Err(problem.into()),
            None => Ok(text),
        }
    }
}
