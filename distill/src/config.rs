//! The recipe's `[teacher]` table.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::losses::Losses;

/// `[teacher]`: who teaches, and what of it counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// A Hugging Face directory, run in Burn, or a `.gguf` file, run by the int4 engine; both
    /// with the student's tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A directory that `retort distill cache` wrote, in place of running the teacher. If
    /// there is a `path` too, the cache must be of that teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Both distributions are softened by this before they are compared.
    #[serde(default = "one")]
    pub temperature: f32,
    /// Positions whose logits exist at once, the student's and the teacher's: with large
    /// vocabularies most of a step's memory. 0 takes 16 MiB of either, but 256 positions.
    #[serde(default)]
    pub chunk: usize,
    /// What counts.
    #[serde(default)]
    pub losses: Losses,
}

fn one() -> f32 {
    1.0
}

impl TeacherConfig {
    /// Reads a recipe's `[teacher]` table.
    ///
    /// # Errors
    /// [`Error::NoTeacher`] without one; [`Error::Config`] names the key.
    pub fn from_table(table: Option<&toml::Table>) -> Result<Self> {
        let table = table.ok_or(Error::NoTeacher)?.clone();
        let config: Self = table
            .try_into()
            .map_err(|e: toml::de::Error| Error::Config(e.message().to_owned()))?;
        if !(config.temperature.is_finite() && config.temperature > 0.0) {
            return Err(Error::Config("temperature: must be above 0".into()));
        }
        if config.path.is_none() && config.cache.is_none() {
            return Err(Error::Config(
                "path: is missing: name a Hugging Face directory or a .gguf file, or a cache"
                    .into(),
            ));
        }
        config.losses.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::{Line, Weight};

    fn read(text: &str) -> Result<TeacherConfig> {
        TeacherConfig::from_table(Some(&text.parse().unwrap()))
    }

    #[test]
    fn defaults_and_refusals() {
        let config = read("path = \"t\"").unwrap();
        assert_eq!(config.temperature, 1.0);
        assert_eq!(config.losses, Losses::default());
        let text = "cache = \"c\"\n[losses]\nreverse_kl = { from = 0, to = 1, steps = 100 }";
        let losses = read(text).unwrap().losses;
        assert_eq!(losses.cross_entropy, Weight::Constant(0.0));
        let line = Line {
            from: 0.0,
            to: 1.0,
            steps: 100,
        };
        assert_eq!(losses.reverse_kl, Weight::Line(line));
        for (text, expect) in [
            ("path = \"t\"\ntemperature = 0", "temperature"),
            (
                "path = \"t\"\n[losses]\nforward_kl = -1",
                "losses.forward_kl",
            ),
            (
                "path = \"t\"\n[losses]\nforward_kl = inf",
                "losses.forward_kl",
            ),
            (
                "path = \"t\"\n[losses]\nbeta = 1.0\nforward_kl = 1",
                "losses.beta",
            ),
            (
                "path = \"t\"\n[losses]\nforward_kl = 0",
                "losses: all are 0",
            ),
            ("path = \"t\"\nalpha = 2", "alpha"),
            ("path = \"t\"\n[losses]\nkl = 2", "kl"),
            ("temperature = 1", "path"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(expect), "{text}: {message}");
        }
        assert!(TeacherConfig::from_table(None).is_err());
    }
}
