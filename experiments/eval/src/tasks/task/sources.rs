//! The data of a task: files of rows, columns added to them, rows joined to them, and few-shot examples.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Files of rows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Names or globs below the data directory. All files of the first that matches are read, in
    /// the order of their names.
    pub files: Vec<String>,
    /// How they are read, where their names do not say it.
    pub format: Option<Format>,
    /// Columns to add: name and expression of the columns in the file.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// For JSON: the key of the rows, where a file is an object that holds them.
    pub rows: Option<String>,
    /// A column to add: the name of the row's file, without its ending.
    pub file_column: Option<String>,
    /// For text: a line that this regular expression matches begins a row.
    pub row_starts: Option<String>,
    /// Columns of other files' rows, added before `columns` are.
    pub join: Option<Join>,
    /// An expression of the file's and joined columns: rows for which it is false are passed over.
    pub keep: Option<String>,
}

/// Rows that go with a source's rows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The column in which both have the same. Where several rows have, it is the first.
    pub on: String,
    /// Where they are.
    pub source: Vec<Source>,
    /// Whether they may be absent, all or one: nothing is added then.
    #[serde(default)]
    pub optional: bool,
}

impl Source {
    /// The source itself and all sources that it joins.
    pub(super) fn with_joined(&self) -> Vec<&Source> {
        let joined = self.join.iter().flat_map(|join| &join.source);
        let joined = joined.flat_map(Source::with_joined);
        std::iter::once(self).chain(joined).collect()
    }
}

/// How rows lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object a line, or one array of objects.
    Json,
    /// Comma-separated values with a first line of names.
    Csv,
    /// Parquet.
    Parquet,
    /// Plain text, in the column `text`.
    Text,
}

/// Where examples come from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FewShot {
    /// How many, where the caller does not say.
    #[serde(default)]
    pub shots: usize,
    /// Where they are.
    pub source: Vec<Source>,
    /// A column that an example has in common with the row.
    pub same: Option<String>,
}
