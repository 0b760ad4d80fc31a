//! Checks that a cache is the one that a recipe needs, before training starts.

use std::path::Path;

use retort_tokenizer::Tokenizer;

use super::format::{RowFormat, Sparsification};
use super::read::LogitCache;
use crate::config::TeacherConfig;
use crate::error::{Error, Result};
use crate::teacher::fingerprint;

impl LogitCache {
    /// Checks that it was written for a recipe with this `config`, the student's `tokenizer` and
    /// these `rows`, and has enough rows.
    ///
    /// # Errors
    /// [`Error::Cache`] names the setting that differs.
    pub fn check(
        &self,
        config: &TeacherConfig,
        tokenizer: &Tokenizer,
        rows: &RowFormat,
    ) -> Result<()> {
        let h = &self.header;
        let differ = |what: &str, here: String, wanted: String, remedy: &str| {
            let reason = format!("is for {what} {here}, the recipe has {wanted}: {remedy}");
            Err(Error::cache(&self.dir, reason))
        };
        let again = "write another with `retort distill cache`";
        let ours = format!("{:016x}", tokenizer.fingerprint());
        if h.tokenizer != ours {
            let remedy = "set data.tokenizer to the cache's, or write another";
            return differ("the tokenizer", h.tokenizer.clone(), ours, remedy);
        }
        if h.temperature != config.temperature {
            let wanted = config.temperature.to_string();
            return differ("temperature", h.temperature.to_string(), wanted, again);
        }
        let (theirs, ours) = (h.rows, *rows);
        if theirs.seq_len != ours.seq_len {
            let (a, b) = (theirs.seq_len.to_string(), ours.seq_len.to_string());
            return differ("data.seq_len", a, b, again);
        }
        if theirs.document_attention != ours.document_attention {
            let (a, b) = (theirs.document_attention, ours.document_attention);
            return differ(
                "train.document_attention",
                a.to_string(),
                b.to_string(),
                again,
            );
        }
        if matches!(h.sparsification, Sparsification::Sampled { .. }) {
            let other = config.losses.divergences().find(|d| *d != "forward_kl");
            if let Some(other) = other {
                return Err(Error::cache(
                    &self.dir,
                    format!(
                        "holds samples, from which only forward_kl can be estimated: drop \
                         teacher.losses.{other}, or write another with --top-k"
                    ),
                ));
            }
        }
        if self.rows() < ours.count {
            let reason = format!(
                "has {} rows, the recipe's run takes {}: go on writing it with `retort distill \
                 cache`, or train for fewer steps",
                self.rows(),
                ours.count
            );
            return Err(Error::cache(&self.dir, reason));
        }
        Ok(())
    }

    /// Checks that it was written by the teacher at `path`, whose weights are hashed.
    ///
    /// # Errors
    /// [`Error::Cache`] if it was written by another.
    pub fn check_teacher(&self, path: &Path) -> Result<()> {
        let found = fingerprint(path)?;
        if found == self.header.teacher {
            return Ok(());
        }
        let reason = format!(
            "is of a teacher with hash {}, {} has {found}: write another, or leave teacher.path \
             away",
            self.header.teacher,
            path.display()
        );
        Err(Error::cache(&self.dir, reason))
    }
}
