//! Finds a task's data files, reads their rows and makes them items.
//!
//! In: a task, and the directories that may hold its files. Out: [`LoadedTask`], the items in the
//! order of the rows. No model is needed, so that one loading serves many evaluations.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::item::Item;
use super::item_builder::ItemBuilder;
use super::rows::{self, OnRow};
use super::task::{Join, Source, Task};
use super::template::{Row, Templates, context};
use crate::error::{Error, Result};

/// Where a task's data is, and how much of it is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Directories that are searched for the data files, in this order.
    pub dirs: Vec<PathBuf>,
    /// Most items, from the first.
    pub limit: Option<usize>,
    /// Examples before each question, instead of the task's own number.
    pub shots: Option<usize>,
}

/// A task with its items.
#[derive(Clone, Debug)]
pub struct LoadedTask {
    /// The task.
    pub task: Task,
    /// Its items, in the order of the rows.
    pub items: Vec<Item>,
    /// Examples before each question.
    pub shots: usize,
}

impl LoadedTask {
    /// Finds and reads the data of `task`.
    ///
    /// # Errors
    ///
    /// [`Error::NoData`], [`Error::Io`], [`Error::Data`] for a damaged file, [`Error::Item`] for a
    /// row that does not give what the task asks of it, [`Error::Task`] if there are to be examples
    /// and the task has none.
    pub fn new(task: Task, options: &LoadOptions) -> Result<Self> {
        let templates = Templates::new();
        let reader = TaskReader {
            task: &task,
            templates: &templates,
            dirs: &options.dirs,
        };
        let default = task.few_shot.as_ref().map_or(0, |few| few.shots);
        let shots = options.shots.unwrap_or(default);
        let mut examples = Vec::new();
        match (&task.few_shot, shots) {
            (_, 0) => {}
            (None, _) => {
                let reason = "the task names no examples; add [few_shot] or ask for 0";
                return Err(reader.wrong("few_shot", reason.into()));
            }
            (Some(few), _) => reader.each_row(&few.source, &mut |row| {
                examples.push(row);
                Ok(ControlFlow::Continue(()))
            })?,
        }
        let same = task.few_shot.as_ref().and_then(|few| few.same.clone());
        let builder = ItemBuilder::new(&task, &templates);
        let mut items = Vec::new();
        let limit = options.limit.unwrap_or(usize::MAX);
        reader.each_row(&task.source, &mut |row| {
            if items.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            let index = items.len();
            let alike = |example: &&Row| {
                **example != row && same.as_ref().is_none_or(|c| example.get(c) == row.get(c))
            };
            let chosen: Vec<&Row> = examples.iter().filter(alike).take(shots).collect();
            if chosen.len() < shots {
                let reason = format!("only {} of {shots} examples for it", chosen.len());
                return Err(builder.wrong(index, "few_shot", reason));
            }
            items.push(builder.build(index, &row, &chosen)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Self { task, items, shots })
    }
}

/// Reads the rows of a task's files.
struct TaskReader<'t> {
    task: &'t Task,
    templates: &'t Templates,
    dirs: &'t [PathBuf],
}

/// The rows to join, by the JSON of the column that both have in common.
struct JoinedRows<'t> {
    join: &'t Join,
    by_key: HashMap<String, Row>,
}

impl TaskReader<'_> {
    fn wrong(&self, field: &str, reason: String) -> Error {
        Error::Task {
            task: self.task.name.clone(),
            field: field.to_owned(),
            reason,
        }
    }

    /// Hands `on_row` the rows of the first source whose files exist, with the columns it adds.
    fn each_row(&self, sources: &[Source], on_row: &mut OnRow<'_>) -> Result<()> {
        let (source, files) = self.find_files(sources)?;
        let starts = source.row_starts.as_deref().map(Regex::new).transpose();
        let starts = starts.map_err(|e| self.wrong("source.row_starts", e.to_string()))?;
        let join = source.join.as_ref().map(|join| self.joined_rows(join));
        let join = join.transpose()?;
        let mut index = 0;
        for path in files {
            let Some(format) = rows::format(&path, source) else {
                let reason = format!("name the format of {}", path.display());
                return Err(self.wrong("source.format", reason));
            };
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let mut on_file_row = |mut row: Row| {
                if let Some(column) = &source.file_column {
                    row.insert(column.clone(), stem.as_ref().into());
                }
                let joined = join.as_ref().map_or(Ok(()), |join| join.add_to(&mut row));
                let added = joined.and_then(|()| add_columns(source, self.templates, &row));
                let row = added.map_err(|(field, reason)| Error::Item {
                    task: self.task.name.clone(),
                    index,
                    field,
                    reason,
                })?;
                index += 1;
                match row {
                    Some(row) => on_row(row),
                    None => Ok(ControlFlow::Continue(())),
                }
            };
            let (key, starts) = (source.rows.as_deref(), starts.as_ref());
            if rows::read(&path, format, key, starts, &mut on_file_row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn joined_rows<'j>(&self, join: &'j Join) -> Result<JoinedRows<'j>> {
        let mut by_key = HashMap::new();
        let read = self.each_row(&join.source, &mut |row| {
            if let Some(key) = row.get(&join.on) {
                by_key.entry(key.to_string()).or_insert(row);
            }
            Ok(ControlFlow::Continue(()))
        });
        match read {
            Err(Error::NoData { .. }) if join.optional => {}
            read => read?,
        }
        Ok(JoinedRows { join, by_key })
    }

    /// The first source whose files exist, and these in the order of their names.
    fn find_files<'s>(&self, sources: &'s [Source]) -> Result<(&'s Source, Vec<PathBuf>)> {
        for source in sources {
            for pattern in &source.files {
                for dir in self.dirs {
                    let files = self.matching_files(dir, pattern)?;
                    if !files.is_empty() {
                        return Ok((source, files));
                    }
                }
            }
        }
        let patterns = sources.iter().flat_map(|source| &source.files);
        let patterns: Vec<&str> = patterns.map(String::as_str).collect();
        let dirs: Vec<String> = self.dirs.iter().map(|d| d.display().to_string()).collect();
        Err(Error::NoData {
            task: self.task.name.clone(),
            dirs: dirs.join(", "),
            patterns: patterns.join(", "),
        })
    }

    fn matching_files(&self, dir: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
        let inside = glob::Pattern::escape(&dir.to_string_lossy());
        let found = glob::glob(&format!("{inside}/{pattern}"))
            .map_err(|e| self.wrong("source.files", format!("{pattern}: {e}")))?;
        let mut files = Vec::new();
        for path in found {
            let path = path.map_err(|e| {
                let place = e.path().to_path_buf();
                Error::io(&place, "look into it")(e.into())
            })?;
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

impl JoinedRows<'_> {
    /// Adds to `row` the columns of its joined row that it does not have; an error with its field.
    fn add_to(&self, row: &mut Row) -> Result<(), (String, String)> {
        let join = self.join;
        let key = row.get(&join.on).map(serde_json::Value::to_string);
        let Some(other) = key.as_ref().and_then(|key| self.by_key.get(key)) else {
            if join.optional {
                return Ok(());
            }
            let key = key.unwrap_or("a row without that column".into());
            let reason = format!("no row to join has the {} of {key}", join.on);
            return Err(("source.join".into(), reason));
        };
        for (name, value) in other {
            row.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Ok(())
    }
}

/// `row` with the columns that `source` adds; `None` if `keep` drops it; an error with its field.
fn add_columns(
    source: &Source,
    templates: &Templates,
    row: &Row,
) -> Result<Option<Row>, (String, String)> {
    let mut wide = row.clone();
    if source.columns.is_empty() && source.keep.is_none() {
        return Ok(Some(wide));
    }
    let narrow = context(row);
    if let Some(keep) = &source.keep {
        let wrong = |reason: String| ("source.keep".to_owned(), reason);
        if !templates.value(keep, &narrow).map_err(wrong)?.is_true() {
            return Ok(None);
        }
    }
    for (name, expression) in &source.columns {
        let wrong = |reason: String| (format!("source.columns.{name}"), reason);
        let value = templates.value(expression, &narrow).map_err(wrong)?;
        let value = serde_json::to_value(&value).map_err(|e| wrong(e.to_string()))?;
        wide.insert(name.clone(), value);
    }
    Ok(Some(wide))
}
