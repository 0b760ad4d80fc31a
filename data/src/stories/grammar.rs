//! The grammar of the stories, read from `grammar.toml`, which says how it is written.

use std::sync::LazyLock;

use serde::Deserialize;

/// The grammar of this crate's stories.
pub(super) static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| {
    toml::from_str(include_str!("grammar.toml")).expect("grammar.toml is as this file reads it")
});

/// Sentences with choices in them, and the tables to choose from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grammar {
    /// How every story opens.
    pub(super) opening: Vec<Sentence>,
    /// How it goes on.
    pub(super) plots: Vec<Plot>,
    tables: Vec<Table>,
}

/// The wordings of one sentence, each with its weight.
pub(super) type Sentence = Vec<(u32, String)>;

/// The sentences after the opening.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plot {
    pub(super) weight: u32,
    pub(super) sentences: Vec<Sentence>,
}

/// Rows to choose from, all equally likely; `columns` names what each row holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    name: String,
    columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Grammar {
    /// The table of that name, which must be there.
    pub(super) fn table(&self, name: &str) -> &Table {
        let mut tables = self.tables.iter();
        tables
            .find(|table| table.name == name)
            .expect("a table of that name")
    }
}

impl Table {
    /// The value of `row` in the column `name`.
    pub(super) fn value(&self, row: usize, name: &str) -> Option<&str> {
        let column = self.columns.iter().position(|column| column == name)?;
        self.rows[row].get(column).map(String::as_str)
    }
}
