//! Finding a task: a built-in one by its name, another by the path of its file.

use std::path::Path;

use super::check::wrong;
use super::file::Task;
use crate::error::{Error, Result};

macro_rules! builtin {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../../tasks/", $name, ".toml")),
        )
    };
}

/// The built-in tasks: name and file.
pub const TASKS: &[(&str, &str)] = &[
    builtin!("arc_challenge"),
    builtin!("arc_easy"),
    builtin!("bbh"),
    builtin!("bbh_cot"),
    builtin!("boolq"),
    builtin!("chid"),
    builtin!("commonsense_qa"),
    builtin!("gsm8k"),
    builtin!("hellaswag"),
    builtin!("humaneval"),
    builtin!("lambada_openai"),
    builtin!("longbench"),
    builtin!("mmlu"),
    builtin!("openbookqa"),
    builtin!("piqa"),
    builtin!("truthfulqa_mc1"),
    builtin!("truthfulqa_mc2"),
    builtin!("wikitext"),
    builtin!("winogrande"),
];

/// Bytes of the largest task file that is read.
const LARGEST_FILE: u64 = 1 << 20;

impl Task {
    /// The built-in task called `name`, or the one in the TOML file at that path.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`], [`Error::Io`], [`Error::Task`].
    pub fn find(name: &str) -> Result<Self> {
        if let Some((_, text)) = TASKS.iter().find(|(known, _)| *known == name) {
            return Self::parse(text, name);
        }
        let path = Path::new(name);
        if !name.ends_with(".toml") {
            let known: Vec<_> = TASKS.iter().map(|(name, _)| *name).collect();
            return Err(Error::UnknownTask {
                name: name.to_owned(),
                known: known.join(", "),
            });
        }
        let read = || Error::io(path, "read the task");
        if std::fs::metadata(path).map_err(read())?.len() > LARGEST_FILE {
            return Err(wrong(name, "the file", "larger than 1 MiB, so no task"));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(read())?, name)
    }

    /// Parses a task file; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Task`].
    pub fn parse(text: &str, path: &str) -> Result<Self> {
        let task: Self = toml::from_str(text).map_err(|e| {
            let line = e
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            wrong(path, &format!("line {line}"), e.message())
        })?;
        task.check(path)?;
        Ok(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_tasks_parse_and_have_the_names_of_their_files() {
        for (name, text) in TASKS {
            assert_eq!(Task::parse(text, name).unwrap().name, *name);
        }
    }

    #[test]
    fn an_unknown_task_is_an_error_naming_the_built_in_ones() {
        let error = Task::find("arc").unwrap_err().to_string();
        assert!(
            error.contains("no task \"arc\"") && error.contains("arc_easy"),
            "{error}"
        );
        assert!(Task::find("/nowhere/x.toml").is_err());
    }
}
