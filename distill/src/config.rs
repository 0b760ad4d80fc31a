//! The recipe's `[teacher]` table.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `[teacher]`: who teaches and how its word is weighed against the text's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// A Hugging Face directory with the student's tokenizer.
    pub path: PathBuf,
    /// Both distributions are softened by this before they are compared.
    #[serde(default = "default_temperature")]
    pub temperature: f64,
    /// The loss is `kl_weight · KL + (1 − kl_weight) · cross entropy`.
    #[serde(default = "default_weight")]
    pub kl_weight: f64,
}

fn default_temperature() -> f64 {
    1.0
}
fn default_weight() -> f64 {
    0.5
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
        if !(0.0..=1.0).contains(&config.kl_weight) {
            return Err(Error::Config("kl_weight: must be between 0 and 1".into()));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TeacherConfig> {
        TeacherConfig::from_table(Some(&text.parse().unwrap()))
    }

    #[test]
    fn defaults_and_refusals() {
        let config = read("path = \"t\"").unwrap();
        assert_eq!((config.temperature, config.kl_weight), (1.0, 0.5));
        for (text, expect) in [
            ("path = \"t\"\ntemperature = 0", "temperature"),
            ("path = \"t\"\nkl_weight = 2", "kl_weight"),
            ("path = \"t\"\nalpha = 2", "alpha"),
            ("temperature = 1", "path"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(expect), "{message}");
        }
        assert!(TeacherConfig::from_table(None).is_err());
    }
}
