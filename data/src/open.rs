//! Opening `[data]`: the sources are resolved, duplicates found and the held-out rows read.

use std::path::Path;
use std::sync::Arc;

use rayon::ThreadPool;
use retort_tokenizer::Tokenizer;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::DataConfig;
use crate::cursor::{Cursor, Identity, SourceCursor};
use crate::data::{Data, DataSource, SourceKind};
use crate::duplicates::Duplicates;
use crate::error::{Error, Result};
use crate::eval_rows::EvalRows;
use crate::filter::Side;
use crate::pretokenized::{Index, PretokenizedRows, validation_rows};
use crate::progress::DocumentProgress;
use crate::row::Row;
use crate::source::Shards;
use crate::stream::Stream;

impl Data {
    /// Resolves the sources of `config` and reads the validation rows, which are taken from each
    /// source in its own order until there are as many as the recipe asks for.
    ///
    /// `resume` is the cursor that batches will go on from: the hub is then asked for the commit that
    /// the cursor was saved at. `beside` is a directory where the positions of duplicates are kept.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an impossible value, [`Error::Cursor`] if the cursor belongs to other
    /// data, and any error of resolving, reading or tokenizing.
    pub fn open(
        config: &DataConfig,
        tokenizer: &Arc<Tokenizer>,
        beside: Option<&Path>,
        resume: Option<&Cursor>,
        progress: &dyn Fn(DocumentProgress),
    ) -> Result<Self> {
        config.validate()?;
        let mut data = Self {
            config: config.clone(),
            tokenizer: tokenizer.clone(),
            pool: Arc::new(pool(config.threads)?),
            sources: Vec::new(),
            identity: Arc::default(),
            validation: Arc::default(),
        };
        let mut identity = Identity {
            tokenizer: format!("{:016x}", tokenizer.fingerprint()),
            settings: settings(config),
            ..Identity::default()
        };
        let mut held_out = Vec::new();
        for weighted in &config.sources() {
            let directory = Path::new(&weighted.source);
            if Index::is_source(directory)? {
                let index = data.add_pretokenized(directory, weighted.weight, &mut identity)?;
                let rows = validation_rows(directory, &index, data.share(weighted.weight))?;
                held_out.extend(rows);
                continue;
            }
            // A packed directory before it may have been several sources.
            let at = identity.sources.len();
            let pinned = resume.and_then(|c| c.identity.pinned.get(at)?.as_deref());
            let source = pinned.unwrap_or(&weighted.source);
            let shards = Arc::new(Shards::resolve(source, &config.source_options())?);
            identity.sources.push(shards.identity());
            identity.pinned.push(shards.pinned());
            data.sources.push(DataSource {
                weight: weighted.weight,
                kind: SourceKind::Text {
                    shards,
                    duplicates: None,
                },
            });
        }
        if let Some(cursor) = resume {
            cursor.check(&identity)?;
        }
        data.identity = Arc::new(identity);
        if config.filter.drop_duplicates {
            data.find_duplicates(beside, progress)?;
        }
        for i in 0..data.sources.len() {
            held_out.extend(data.held_out(i, progress)?);
        }
        held_out.truncate(config.max_validation_rows);
        data.validation = Arc::new(EvalRows::new(held_out, config.seq_len));
        Ok(data)
    }

    /// A source's share of the held-out rows.
    fn share(&self, weight: f64) -> usize {
        (self.config.max_validation_rows as f64 * weight).ceil() as usize
    }

    /// Held-out rows of text source `i`.
    fn held_out(&self, i: usize, progress: &dyn Fn(DocumentProgress)) -> Result<Vec<Row>> {
        let most = self.share(self.sources[i].weight);
        if most == 0
            || self.config.validation_fraction == 0.0
            || matches!(self.sources[i].kind, SourceKind::Pretokenized(_))
        {
            return Ok(Vec::new());
        }
        let options = self.options(i, Side::Validation, None)?;
        let mut stream = Stream::new(options, &SourceCursor::default());
        let mut rows = Vec::new();
        while rows.len() < most
            && let Some(row) = stream.packed_row()?
        {
            rows.push(row);
            progress(DocumentProgress {
                what: "validation",
                fraction: rows.len() as f64 / most as f64,
                documents: stream.cursor().stats.documents,
            });
        }
        Ok(rows)
    }

    /// Adds the sources of a packed directory.
    fn add_pretokenized(
        &mut self,
        directory: &Path,
        weight: f64,
        identity: &mut Identity,
    ) -> Result<Index> {
        let index = Index::read(directory)?;
        index.check(directory, &self.config, &self.tokenizer)?;
        let sum: f64 = index.sources.iter().map(|s| s.weight).sum();
        for (i, source) in index.sources.iter().enumerate() {
            let files = PretokenizedRows::files(directory, &index, i)?;
            self.sources.push(DataSource {
                weight: weight * source.weight / sum,
                kind: SourceKind::Pretokenized(Arc::new(files)),
            });
            let made = serde_json::to_vec(&(&index, i)).expect("an index serializes");
            identity.sources.push(format!("{:016x}", xxh3_64(&made)));
            identity.pinned.push(None);
        }
        Ok(index)
    }

    fn find_duplicates(
        &mut self,
        beside: Option<&Path>,
        progress: &dyn Fn(DocumentProgress),
    ) -> Result<()> {
        for source in &mut self.sources {
            if let SourceKind::Text { shards, duplicates } = &mut source.kind {
                let found = Duplicates::of(shards, self.config.on_damage, beside, progress)?;
                *duplicates = Some(Arc::new(found));
            }
        }
        Ok(())
    }
}

/// Threads of their own: a caller that keeps the global pool busy with a training step does not hold
/// up the data, nor the other way round.
fn pool(threads: usize) -> Result<ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("data-{i}"))
        .build()
        .map_err(|e| Error::config("threads", format!("cannot be started: {e}")))
}

/// A hash of the settings that the sequence of rows depends on.
fn settings(config: &DataConfig) -> String {
    let weights: Vec<f64> = config.sources().iter().map(|s| s.weight).collect();
    let what = (
        (config.seq_len, config.packing, &config.filter),
        (config.shuffle_window, config.on_damage),
        (config.validation_fraction, config.seed, weights),
    );
    let json = serde_json::to_vec(&what).expect("settings serialize");
    format!("{:016x}", xxh3_64(&json))
}
