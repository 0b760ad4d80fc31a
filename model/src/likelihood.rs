//! How likely texts are to a model: the log-likelihoods of given tokens after given others.
//!
//! In: rows of ids of any lengths, each with targets for its last positions. Out: for each
//! target the sum of its tokens' log-probabilities, in nats, and whether every one of them
//! was the likeliest. The head runs on the targets' positions alone, a few rows of logits
//! at a time.

use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;

use crate::decoder::Decoder;

/// Bytes of logits that exist at once.
const LOGIT_BYTES: usize = 32 << 20;

/// What a model reads, and what it is asked about.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// The ids that go in; at least one.
    pub ids: &'a [u32],
    /// What the last positions should have predicted: the last id of a target stands for what
    /// follows the last of `ids`. At least one and at most as many as `ids`.
    pub targets: Vec<&'a [u32]>,
}

/// How likely a target was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// The sum of the log-probabilities of its tokens, in nats.
    pub log_likelihood: f64,
    /// Whether each of its tokens was the likeliest at its place.
    pub greedy: bool,
}

/// Asks `model` about `queries`, which go through it together, padded to the longest; answers
/// for each query and each of its targets.
///
/// # Panics
/// An id is outside the vocabulary, or a query is empty or a target too long.
pub fn likelihoods(model: &Decoder, queries: &[Query<'_>]) -> Vec<Vec<Likelihood>> {
    let length = queries.iter().map(|q| q.ids.len()).max().unwrap_or(0);
    let mut answers: Vec<Vec<Likelihood>> = queries
        .iter()
        .map(|q| {
            let certain = Likelihood {
                log_likelihood: 0.0,
                greedy: true,
            };
            vec![certain; q.targets.len()]
        })
        .collect();
    if length == 0 {
        return answers;
    }
    let device = model.embed_tokens.weight.val().device();
    let mut ids = vec![0i32; queries.len() * length];
    // Places asked about, counted through all rows, with who asks.
    let mut places: Vec<TargetPosition> = Vec::new();
    for (row, query) in queries.iter().enumerate() {
        let n = query.ids.len();
        for (to, &id) in ids[row * length..].iter_mut().zip(query.ids) {
            *to = id as i32;
        }
        let longest = query.targets.iter().map(|t| t.len()).max().unwrap_or(0);
        assert!(longest <= n, "a target of {longest} ids after {n}");
        places.extend((n - longest..n).map(|position| TargetPosition { row, position }));
    }
    let ids = TensorData::new(ids, [queries.len(), length]);
    let hidden = model.hidden(Tensor::<2, Int>::from_data(ids, &device));
    let vocabulary = model.config().vocab_size;
    let together = (LOGIT_BYTES / 4 / vocabulary.max(1)).max(1);
    for chunk in places.chunks(together) {
        let at: Vec<i32> = chunk
            .iter()
            .map(|p| (p.row * length + p.position) as i32)
            .collect();
        let at = Tensor::<1, Int>::from_data(TensorData::new(at, [chunk.len()]), &device);
        let logits: Vec<f32> = model
            .logits_at(hidden.clone(), at)
            .into_data()
            .try_into_vec()
            .expect("logits are f32");
        let parts: Vec<Vec<(usize, Likelihood)>> = chunk
            .par_iter()
            .zip(logits.par_chunks_exact(vocabulary))
            .map(|(place, logits)| place.ask(&queries[place.row], logits))
            .collect();
        for (place, part) in chunk.iter().zip(parts) {
            for (target, found) in part {
                let answer = &mut answers[place.row][target];
                answer.log_likelihood += found.log_likelihood;
                answer.greedy &= found.greedy;
            }
        }
    }
    answers
}

/// A position of a row.
struct TargetPosition {
    row: usize,
    position: usize,
}

impl TargetPosition {
    /// What `logits` `[V]` at this place say of the targets that have a token here, by target.
    fn ask(&self, query: &Query<'_>, logits: &[f32]) -> Vec<(usize, Likelihood)> {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|l| f64::from((l - largest).exp())).sum();
        let normalizer = f64::from(largest) + sum.ln();
        let likeliest = logits.iter().position(|&l| l == largest);
        let here = |target: &[u32]| {
            let first = query.ids.len() - target.len();
            target
                .get(self.position.checked_sub(first)?)
                .map(|&id| id as usize)
        };
        let targets = query.targets.iter().enumerate();
        targets
            .filter_map(|(i, target)| {
                let id = here(target)?;
                let found = Likelihood {
                    log_likelihood: f64::from(logits[id]) - normalizer,
                    greedy: likeliest == Some(id),
                };
                Some((i, found))
            })
            .collect()
    }
}
