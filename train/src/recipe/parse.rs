//! A recipe read from TOML: overrides, then each table, then what goes together.

use std::path::Path;

use retort_data::DataConfig;
use retort_format::ModelConfig;
use retort_model::{FakeQuantization, KvFormat};
use serde::de::DeserializeOwned;

use super::overrides::apply_override;
use super::train::TrainConfig;
use super::{FromCheckpoint, ModelSection, Recipe};
use crate::error::{Error, Result};
use crate::eval_hook::TasksConfig;

impl Recipe {
    /// Reads `path`, applies `overrides` (`table.key=value`, the value in TOML or a bare
    /// word) and checks every key and number; `[teacher]`, if there is one, is a `T`
    /// ([`NoTeacher`](super::NoTeacher) for a command that has none). Relative paths inside stay relative to the
    /// working directory.
    ///
    /// # Errors
    /// Names the file, the key and what to do.
    pub fn load<T: DeserializeOwned>(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse::<T>(&text, path, overrides)
    }

    /// The same from TOML text; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse<T: DeserializeOwned>(
        text: &str,
        path: &Path,
        overrides: &[String],
    ) -> Result<Self> {
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            let line = e
                .span()
                .map_or(1, |at| text[..at.start].lines().count().max(1));
            Error::invalid(path, format!("line {line}: {}", e.message()))
        })?;
        for argument in overrides {
            apply_override(&mut table, argument)?;
        }
        // Table by table, so that an error says which one it is about.
        let from = table
            .get("model")
            .is_some_and(|model| model.get("from").is_some());
        check::<DataConfig>(&table, "data", path)?;
        if from {
            check::<FromCheckpoint>(&table, "model", path)?;
        } else {
            check::<ModelConfig>(&table, "model", path)?;
        }
        check::<TrainConfig>(&table, "train", path)?;
        if table.contains_key("quantize") {
            check::<FakeQuantization>(&table, "quantize", path)?;
        }
        if table.contains_key("tasks") {
            check::<TasksConfig>(&table, "tasks", path)?;
        }
        if table.contains_key("teacher") {
            check::<T>(&table, "teacher", path)?;
        }
        let recipe: Self = table
            .try_into()
            .map_err(|e: toml::de::Error| Error::invalid(path, one_line(&e)))?;
        recipe
            .train
            .check()
            .map_err(|(key, reason)| Error::invalid(path, format!("train.{key}: {reason}")))?;
        if recipe.lora.is_some() && matches!(recipe.model, ModelSection::New(_)) {
            return Err(Error::invalid(
                path,
                "[lora] adapts trained weights: name them with [model] from = \"DIRECTORY\"",
            ));
        }
        if recipe.lora.is_some() && recipe.quantize.is_some() {
            return Err(Error::invalid(
                path,
                "[quantize] rounds weights that are trained, and beside [lora] none are: train with one, and \
                 then from its checkpoint with the other",
            ));
        }
        let kv = recipe.quantize.map(|q| q.kv).unwrap_or_default();
        if kv != KvFormat::Float32 && recipe.train.document_attention {
            return Err(Error::invalid(
                path,
                "quantize.kv rounds keys and values in blocks of a row, where train.document_attention starts anew in \
                 each document: leave out one of them",
            ));
        }
        Ok(recipe)
    }

    /// The teacher's table, if there is one, as the type that the recipe was read with.
    ///
    /// # Errors
    /// It is not a `T`.
    pub fn teacher<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let Some(table) = &self.teacher else {
            return Ok(None);
        };
        let typed = T::deserialize(table.clone());
        typed.map(Some).map_err(|e: toml::de::Error| {
            Error::invalid(Path::new("recipe"), format!("[teacher] {}", one_line(&e)))
        })
    }
}

/// Whether the table called `name` is a `T`.
fn check<T: DeserializeOwned>(table: &toml::Table, name: &str, path: &Path) -> Result<()> {
    let value = table
        .get(name)
        .cloned()
        .ok_or_else(|| Error::invalid(path, format!("has no [{name}]")))?;
    let outcome: std::result::Result<T, toml::de::Error> = value.try_into();
    outcome
        .map(drop)
        .map_err(|e| Error::invalid(path, format!("[{name}] {}", one_line(&e))))
}

/// The message with the key it is about, without the picture of the text.
fn one_line(error: &toml::de::Error) -> String {
    error
        .to_string()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::NoTeacher;
    use super::*;

    const TEXT: &str = r#"
[data]
source = "shards"
tokenizer = "tok"
seq_len = 32
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 4
[train]
steps = 10
batch_size = 2
lr = 1e-3
"#;

    fn load(text: &str, overrides: &[&str]) -> Result<Recipe> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.toml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
        Recipe::load::<NoTeacher>(&path, &overrides)
    }

    #[test]
    fn resolved_recipe_round_trips() {
        let recipe = load(TEXT, &["train.lr=3e-4", "data.source=other", "seed=7"]).unwrap();
        assert_eq!(recipe.train.lr, 3e-4);
        assert_eq!(recipe.data.source, "other");
        assert_eq!(recipe.seed, 7);
        let again = load(&recipe.to_toml(), &[]).unwrap();
        assert_eq!(again.to_toml(), recipe.to_toml());
    }

    #[test]
    fn an_empty_override_takes_the_key_away() {
        let recipe = load(TEXT, &["train.warmup_steps=3", "train.warmup_steps="]).unwrap();
        assert_eq!(recipe.train.warmup_steps, 0);
        // A key or a table that is not there is no error.
        load(TEXT, &["train.ema_decay=", "tasks.every=", "seed="]).unwrap();
        let message = load(TEXT, &["train.lr="]).unwrap_err().to_string();
        assert!(message.contains("lr"), "{message}");
        for (argument, expect) in [("train.lr.x=", "not a table"), ("=", "empty part")] {
            let message = load(TEXT, &[argument]).unwrap_err().to_string();
            assert!(message.contains(expect), "{argument}: {message}");
        }
    }

    #[test]
    fn recipe_unknown_keys_are_errors_naming_the_key() {
        for (key, text) in [
            (
                "learning_rate",
                TEXT.replace("lr = ", "learning_rate = 1\nlr = "),
            ),
            (
                "hiden",
                TEXT.replace("hidden_size", "hiden = 1\nhidden_size"),
            ),
            ("shards", TEXT.replace("seq_len", "shards = 1\nseq_len")),
            ("sed", format!("sed = 1\n{TEXT}")),
        ] {
            let message = load(&text, &[]).unwrap_err().to_string();
            assert!(message.contains(key), "{key}: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }

    #[test]
    fn teacher_table_is_typed_when_the_recipe_is_read() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Teacher {
            path: String,
        }
        let parse = |text: &str| Recipe::parse::<Teacher>(text, Path::new("r.toml"), &[]);
        let taught = format!("{TEXT}[teacher]\npath = \"t\"\n");
        let teacher = parse(&taught).unwrap().teacher::<Teacher>().unwrap();
        assert_eq!(teacher.unwrap().path, "t");
        assert!(parse(TEXT).unwrap().teacher::<Teacher>().unwrap().is_none());
        let misspelt = taught.replace("path =", "pth =");
        let message = parse(&misspelt).unwrap_err().to_string();
        assert!(
            message.contains("[teacher]") && message.contains("pth"),
            "{message}"
        );
        let message = load(&taught, &[]).unwrap_err().to_string();
        assert!(
            message.contains("[teacher]") && message.contains("retort distill"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }

    #[test]
    fn recipe_bad_numbers_and_overrides_are_errors_naming_the_key() {
        for (argument, expect) in [
            ("train.steps=0", "train.steps"),
            ("train.lr=nan", "train.lr"),
            ("train.warmup_steps=11", "train.warmup_steps"),
            ("train.lr", "table.key=value"),
            ("train.lr.x=1", "not a table"),
            ("model.hidden_size=\"a\"", "[model]"),
        ] {
            let message = load(TEXT, &[argument]).unwrap_err().to_string();
            assert!(message.contains(expect), "{argument}: {message}");
        }
    }
}
