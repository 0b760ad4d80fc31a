//! Statistics of a source: what became of the documents and tokens read so far.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Statistics of a source from the start of the run to a position; the cursor holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Documents tokenized.
    pub documents: u64,
    /// Documents that belong to validation.
    pub validation: u64,
    /// Documents shorter than `filter.min_bytes`.
    pub too_short: u64,
    /// Documents longer than `filter.max_bytes`.
    pub too_long: u64,
    /// Documents with too small a share of ASCII letters.
    pub not_ascii: u64,
    /// Documents that repeat an earlier one.
    pub duplicates: u64,
    /// Damaged shards, row groups or lines that were skipped.
    pub damaged: u64,
    /// Tokens of the documents tokenized, an end-of-text id for each included.
    pub tokens: u64,
    /// Of these, tokens left out: what is longer than a row in best-fit packing, what does not fill
    /// a row at an epoch's end in concatenation.
    pub cropped: u64,
    /// Places in rows that were filled up.
    pub padded: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, more: Self) {
        self.documents += more.documents;
        self.validation += more.validation;
        self.too_short += more.too_short;
        self.too_long += more.too_long;
        self.not_ascii += more.not_ascii;
        self.duplicates += more.duplicates;
        self.damaged += more.damaged;
        self.tokens += more.tokens;
        self.cropped += more.cropped;
        self.padded += more.padded;
    }
}

impl std::fmt::Display for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let used = self.tokens - self.cropped.min(self.tokens);
        write!(
            f,
            "{} documents, {used} tokens used, {} cropped, {} padded",
            self.documents, self.cropped, self.padded
        )?;
        for (n, what) in [
            (self.validation, "kept for validation"),
            (self.too_short, "too short"),
            (self.too_long, "too long"),
            (self.not_ascii, "with too few ASCII letters"),
            (self.duplicates, "duplicates"),
            (self.damaged, "damaged places skipped"),
        ] {
            if n > 0 {
                write!(f, ", {n} {what}")?;
            }
        }
        Ok(())
    }
}
