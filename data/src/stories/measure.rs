//! The information in a text: searches for the sequences of choices that write it.
//!
//! The search walks the choices depth first and leaves a branch as soon as its text departs from
//! the one sought, so that it costs about (choices × options) expansions of a story.

use super::expand::{Choose, expand, nats_of};

/// The probability of `text` is exp(−nats): summed over all choices that write it (there is just
/// one such sequence for any text of the grammar; a test sees to that). `None` if the grammar does
/// not write `text`.
pub fn nats(text: &str) -> Option<f64> {
    let (sequences, probability) = search(text);
    (sequences > 0).then(|| -probability.ln())
}

/// How many sequences of choices write `text`, and their probability together.
pub(super) fn search(text: &str) -> (usize, f64) {
    let mut search = Search {
        text,
        path: Vec::new(),
        depth: 0,
        nats: 0.0,
        alive: true,
    };
    let (mut sequences, mut probability) = (0, 0.0);
    loop {
        (search.depth, search.nats, search.alive) = (0, 0.0, true);
        let written = expand(&mut search);
        if search.alive && written == text {
            sequences += 1;
            probability += (-search.nats).exp();
        }
        // The deepest choice with an option left moves on; what came after it is forgotten.
        search.path.truncate(search.depth);
        while search
            .path
            .last()
            .is_some_and(|step| step.option + 1 == step.options)
        {
            search.path.pop();
        }
        match search.path.last_mut() {
            Some(step) => step.option += 1,
            None => return (sequences, probability),
        }
    }
}

struct Step {
    option: usize,
    options: usize,
}

struct Search<'a> {
    text: &'a str,
    path: Vec<Step>,
    /// Choices made in this walk.
    depth: usize,
    nats: f64,
    alive: bool,
}

impl Choose for Search<'_> {
    fn choose(&mut self, weights: &[u32]) -> usize {
        if self.depth == self.path.len() {
            self.path.push(Step {
                option: 0,
                options: weights.len(),
            });
        }
        let option = self.path[self.depth].option;
        self.depth += 1;
        self.nats += nats_of(weights, option);
        option
    }

    fn goes_on(&mut self, text: &str) -> bool {
        self.alive = self.text.starts_with(text);
        self.alive
    }
}
