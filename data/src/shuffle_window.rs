//! A window: the next documents of an epoch's order, shuffled among themselves, and their token ids.
//!
//! A window is a function of the position where it starts, so a stream that stops in the middle of one
//! reads it again when it goes on, and nothing before it.

use rayon::prelude::*;

use crate::epoch_order::{Position, ShardWalker};
use crate::error::Result;
use crate::filter::Selection;
use crate::permutation::permutation;
use crate::stats::Stats;
use retort_tokenizer::Tokenizer;

/// A window ends with the document that brings it to this many bytes of text.
const WINDOW_BYTES: usize = 8 << 20;
/// Rows read for one document that the window may hold, before it ends short.
const ROWS_A_DOCUMENT: usize = 16;
/// Documents tokenized by one task.
const TASK_DOCUMENTS: usize = 16;

/// Documents of a window, shuffled.
#[derive(Debug)]
pub(crate) struct Window {
    /// Where its first row is.
    pub position: Position,
    /// What was left out of it.
    pub stats: Stats,
    /// Nothing of the epoch follows it.
    pub ends_epoch: bool,
    documents: Vec<String>,
}

/// A window's documents as ids.
#[derive(Debug)]
pub(crate) struct TokenWindow {
    /// Where its first row is.
    pub position: Position,
    /// What was left out, and what was tokenized.
    pub stats: Stats,
    /// Nothing of the epoch follows it.
    pub ends_epoch: bool,
    /// Each document's ids and an end-of-text id.
    pub ids: Vec<u32>,
    /// Where each document begins in `ids`.
    pub starts: Vec<usize>,
}

/// What makes a window.
#[derive(Clone)]
pub(crate) struct WindowOptions {
    pub selection: Selection,
    /// Documents in it.
    pub documents: usize,
    /// Of the shuffle; `None` keeps the order.
    pub seed: Option<u64>,
}

const DOCUMENTS: u64 = 3;

impl Window {
    /// Reads the next window.
    pub(crate) fn read(walker: &mut ShardWalker, options: &WindowOptions) -> Result<Self> {
        let position = walker.position();
        let mut window = Self {
            position,
            stats: Stats::default(),
            ends_epoch: false,
            documents: Vec::new(),
        };
        let (mut bytes, mut rows) = (0, 0);
        while window.documents.len() < options.documents
            && bytes < WINDOW_BYTES
            && rows < options.documents.saturating_mul(ROWS_A_DOCUMENT)
        {
            let Some((location, text)) = walker.next(&mut window.stats)? else {
                window.ends_epoch = true;
                break;
            };
            rows += 1;
            if options.selection.takes(location, &text, &mut window.stats) {
                bytes += text.len();
                window.documents.push(text);
            }
        }
        if let Some(seed) = options.seed {
            let at = (position.shard as u64) << 32 ^ position.segment as u64;
            let key = [DOCUMENTS ^ position.epoch << 8, at, position.row];
            let order = permutation(window.documents.len(), seed, key);
            let documents = order
                .into_iter()
                .map(|i| std::mem::take(&mut window.documents[i as usize]))
                .collect();
            window.documents = documents;
        }
        Ok(window)
    }

    /// Tokenizes it on the threads of the current pool; the ids do not depend on their number.
    pub(crate) fn tokenize(mut self, tokenizer: &Tokenizer) -> Result<TokenWindow> {
        let parts: Vec<(Vec<u32>, Vec<usize>)> = self
            .documents
            .par_chunks(TASK_DOCUMENTS)
            .map(|documents| {
                let (mut ids, mut starts) = (Vec::new(), Vec::with_capacity(documents.len()));
                for text in documents {
                    starts.push(ids.len());
                    tokenizer.encode_into(text, &mut ids)?;
                    ids.push(tokenizer.eot());
                }
                Ok((ids, starts))
            })
            .collect::<Result<_>>()?;
        let mut ids = Vec::with_capacity(parts.iter().map(|(ids, _)| ids.len()).sum());
        let mut starts = Vec::with_capacity(self.documents.len());
        for (part, its_starts) in &parts {
            starts.extend(its_starts.iter().map(|start| ids.len() + start));
            ids.extend_from_slice(part);
        }
        self.stats.documents += starts.len() as u64;
        self.stats.tokens += ids.len() as u64;
        Ok(TokenWindow {
            position: self.position,
            stats: self.stats,
            ends_epoch: self.ends_epoch,
            ids,
            starts,
        })
    }
}
