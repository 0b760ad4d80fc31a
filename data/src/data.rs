//! `[data]` of a recipe made ready: batches from any position, and the held-out rows.

use std::sync::Arc;

use rayon::ThreadPool;
use retort_tokenizer::Tokenizer;

use crate::batches::{Batches, Rank, RowSource};
use crate::config::DataConfig;
use crate::cursor::{Cursor, Identity, SourceCursor};
use crate::duplicates::Duplicates;
use crate::error::{Error, Result};
use crate::eval_rows::EvalRows;
use crate::filter::{Selection, Side};
use crate::pretokenized::{PretokenizedRows, RowFile};
use crate::shuffle_window::WindowOptions;
use crate::source::Shards;
use crate::stream::{Stream, StreamOptions};

/// Training batches and held-out rows of what a recipe names.
pub struct Data {
    pub(crate) config: DataConfig,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) pool: Arc<ThreadPool>,
    pub(crate) sources: Vec<DataSource>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) validation: Arc<EvalRows>,
}

/// A source and its share of the rows.
pub(crate) struct DataSource {
    pub(crate) weight: f64,
    pub(crate) kind: SourceKind,
}

pub(crate) enum SourceKind {
    Text {
        shards: Arc<Shards>,
        duplicates: Option<Arc<Duplicates>>,
    },
    Pretokenized(Arc<Vec<RowFile>>),
}

impl Data {
    /// The held-out rows, of documents that no training row has any of; may be empty.
    pub fn validation(&self) -> &Arc<EvalRows> {
        &self.validation
    }

    /// Batches of `batch_size` rows for `rank`, from `cursor` on; without one from the start.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `batch_size` is 0 or the rank is not below the number of ranks,
    /// [`Error::Cursor`] if the cursor belongs to other data.
    pub fn batches(
        &self,
        batch_size: usize,
        rank: Rank,
        cursor: Option<&Cursor>,
    ) -> Result<Batches> {
        if let Some(cursor) = cursor {
            cursor.check(&self.identity)?;
        }
        let start = SourceCursor::default();
        let rows = self.sources.iter().enumerate().map(|(i, source)| {
            let position = cursor.map_or(&start, |c| &c.sources[i]);
            let rows = match &source.kind {
                SourceKind::Text { .. } => RowSource::Stream(Box::new(self.stream(i, position)?)),
                SourceKind::Pretokenized(files) => RowSource::Pretokenized(PretokenizedRows::new(
                    files.clone(),
                    self.config.seed,
                    position,
                )),
            };
            Ok((rows, source.weight))
        });
        let rows = rows.collect::<Result<_>>()?;
        let seq_len = self.config.seq_len;
        Batches::new(self.identity.clone(), rows, seq_len, batch_size, rank)
    }

    /// The start of the batches.
    pub fn start(&self) -> Cursor {
        Cursor::start(Identity::clone(&self.identity))
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The rows of text source `i` from `position` on.
    pub(crate) fn stream(&self, i: usize, position: &SourceCursor) -> Result<Stream> {
        let options = self.options(i, Side::Training, Some(self.config.seed))?;
        Ok(Stream::new(options, position))
    }

    pub(crate) fn options(&self, i: usize, side: Side, seed: Option<u64>) -> Result<StreamOptions> {
        let SourceKind::Text { shards, duplicates } = &self.sources[i].kind else {
            return Err(Error::config("source", "is packed already"));
        };
        let config = &self.config;
        Ok(StreamOptions {
            shards: shards.clone(),
            tokenizer: self.tokenizer.clone(),
            pool: self.pool.clone(),
            window: WindowOptions {
                selection: Selection {
                    side,
                    validation_fraction: config.validation_fraction,
                    filter: config.filter.clone(),
                    duplicates: duplicates.clone(),
                },
                documents: config.shuffle_window,
                seed,
            },
            on_damage: config.on_damage,
            packing: config.packing,
            seq_len: config.seq_len,
        })
    }
}
