//! One source as an endless stream of rows, tokenized as it is read.
//!
//! ```text
//! shards ─► ShardWalker ─► Window ─► TokenWindow ─► Concat or BestFit ─► Row
//!           order    shuffle     ids            packing
//! ```
//!
//! While one window is tokenized the next is read; so memory is bounded by two windows of text and
//! the ids of a few, whatever the shards' size.

use std::sync::Arc;

use rayon::ThreadPool;

use crate::best_fit::BestFit;
use crate::concat::Concat;
use crate::config::{OnDamage, Packing};
use crate::cursor::SourceCursor;
use crate::epoch_order::{Position, ShardWalker};
use crate::error::{Error, Result};
use crate::progress::DocumentProgress;
use crate::row::Row;
use crate::shuffle_window::{TokenWindow, Window, WindowOptions};
use crate::source::Shards;
use retort_tokenizer::Tokenizer;

/// What a stream is made of.
#[derive(Clone)]
pub(crate) struct StreamOptions {
    pub shards: Arc<Shards>,
    pub tokenizer: Arc<Tokenizer>,
    pub pool: Arc<ThreadPool>,
    pub window: WindowOptions,
    pub on_damage: OnDamage,
    pub packing: Packing,
    pub seq_len: usize,
}

/// An endless stream of rows.
pub(crate) struct Stream {
    options: StreamOptions,
    walker: ShardWalker,
    /// The next window, read while the last was tokenized.
    ahead: Option<Result<Window>>,
    /// Where the next window to be tokenized starts.
    upcoming: Position,
    packer: Packer,
    rows: u64,
    /// The packer's window is the last of its epoch.
    last: bool,
    /// Epochs ended since the last row.
    barren: u32,
}

enum Packer {
    Concat(Concat),
    BestFit(BestFit),
}

impl Stream {
    /// Goes on from `cursor`; the default one is the start.
    pub(crate) fn new(options: StreamOptions, cursor: &SourceCursor) -> Self {
        let seed = options.window.seed;
        let position = cursor.position;
        let walker = ShardWalker::new(options.shards.clone(), seed, options.on_damage, position);
        let (seq_len, skip) = (options.seq_len, cursor.skip as usize);
        let packer = match options.packing {
            Packing::Concat => Packer::Concat(Concat::new(seq_len, skip, cursor.stats)),
            Packing::BestFit => Packer::BestFit(BestFit::new(seq_len, seed, skip, cursor.stats)),
        };
        Self {
            options,
            walker,
            ahead: None,
            upcoming: position,
            packer,
            rows: cursor.rows,
            last: false,
            barren: 0,
        }
    }

    /// The next row, of this epoch or the next.
    ///
    /// # Errors
    ///
    /// Any error of reading or tokenizing; [`Error::TooSmall`] if a whole epoch fills no row.
    pub(crate) fn next_row(&mut self) -> Result<Row> {
        loop {
            if let Some(row) = self.packed_row()? {
                self.rows += 1;
                self.barren = 0;
                return Ok(row);
            }
            // The first may have begun in its middle.
            if self.barren >= 2 {
                return Err(Error::TooSmall {
                    source_name: self.options.shards.name(0),
                    seq_len: self.options.seq_len,
                });
            }
        }
    }

    /// A row, or `None` at the end of an epoch.
    pub(crate) fn packed_row(&mut self) -> Result<Option<Row>> {
        loop {
            let row = match &mut self.packer {
                Packer::Concat(packer) if packer.wants_more() => None,
                Packer::Concat(packer) => {
                    let row = packer.next_row();
                    self.last = row.is_none();
                    row
                }
                Packer::BestFit(packer) => packer.next_row(),
            };
            if row.is_some() {
                return Ok(row);
            }
            if std::mem::take(&mut self.last) {
                self.barren += 1;
                return Ok(None);
            }
            let window = self.next_window()?;
            match &mut self.packer {
                Packer::Concat(packer) => packer.push(window),
                Packer::BestFit(packer) => {
                    self.last = window.ends_epoch;
                    packer.push(&window);
                }
            }
        }
    }

    /// Tokenizes the next window while the one after it is read.
    fn next_window(&mut self) -> Result<TokenWindow> {
        let (walker, options) = (&mut self.walker, &self.options);
        let window = match self.ahead.take() {
            Some(window) => window?,
            None => Window::read(walker, &options.window)?,
        };
        self.upcoming = walker.position();
        let (tokens, ahead) = options.pool.install(|| {
            rayon::join(
                || window.tokenize(&options.tokenizer),
                || Window::read(walker, &options.window),
            )
        });
        self.ahead = Some(ahead);
        tokens
    }

    /// How far the epoch has been read.
    pub(crate) fn progress(&self, what: &'static str) -> DocumentProgress {
        DocumentProgress {
            what,
            fraction: self.walker.fraction(),
            documents: self.cursor().stats.documents,
        }
    }

    /// Where the next row is.
    pub(crate) fn cursor(&self) -> SourceCursor {
        let (position, skip, stats) = match &self.packer {
            Packer::Concat(packer) => packer.position(),
            Packer::BestFit(packer) => packer.position(),
        };
        SourceCursor {
            position: position.unwrap_or(self.upcoming),
            skip,
            rows: self.rows,
            stats,
        }
    }
}
