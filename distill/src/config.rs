//! The recipe's `[teacher]` table.

use std::path::{Path, PathBuf};

use retort_train::Recipe;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::blockwise::BlockwiseConfig;
use crate::error::{Error, Result};
use crate::losses::LossesConfig;
use crate::matching::MatchConfig;
use crate::on_policy::OnPolicyConfig;

/// `[teacher]`: the teacher and the losses.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct TeacherConfig {
    /// A Hugging Face directory, run in Burn, or a `.gguf` file, run by the edge engine. It has
    /// the student's tokenizer.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// A directory that `retort distill cache` wrote, in place of running the teacher. If `path`
    /// exists on this machine, the cache must be of that teacher.
    #[serde(default)]
    pub cache: Option<PathBuf>,
    /// The temperature of both distributions where they are compared.
    #[serde(default = "one")]
    pub temperature: f32,
    /// Positions whose logits exist at once, the student's and the teacher's: with a large
    /// vocabulary most of a step's memory. 0 takes 16 MiB of either, or 256 positions if that is
    /// more.
    #[serde(default)]
    pub chunk: usize,
    /// The weights of the losses of outputs.
    #[serde(default)]
    pub losses: LossesConfig,
    /// Matches the student's residual stream to the teacher's after chosen layers.
    #[serde(default)]
    pub hidden: Option<MatchConfig>,
    /// Matches what attention adds to the residual stream in chosen layers.
    #[serde(default)]
    pub attention: Option<MatchConfig>,
    /// A first phase in which each block of the student learns by itself.
    #[serde(default)]
    pub blockwise: Option<BlockwiseConfig>,
    /// Steps on text that the student samples itself.
    #[serde(default)]
    pub on_policy: Option<OnPolicyConfig>,
}

fn one() -> f32 {
    1.0
}

impl<'de> Deserialize<'de> for TeacherConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        // The inherent function that `remote` derives.
        let config = Self::deserialize(deserializer)?;
        match config.check() {
            Ok(()) => Ok(config),
            Err(Error::Config(reason)) => Err(D::Error::custom(reason)),
            Err(other) => Err(D::Error::custom(other)),
        }
    }
}

impl TeacherConfig {
    /// The `[teacher]` table of `recipe`.
    ///
    /// # Errors
    /// [`Error::NoTeacher`] without one.
    pub fn of(recipe: &Recipe) -> Result<Self> {
        recipe.teacher()?.ok_or(Error::NoTeacher)
    }

    /// Whether the keys have values that go together.
    ///
    /// # Errors
    /// [`Error::Config`] names the key.
    fn check(&self) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(Error::Config("temperature: must be above 0".into()));
        }
        if self.path.is_none() && self.cache.is_none() {
            return Err(Error::Config(
                "path: is missing: name a Hugging Face directory or a .gguf file, or a cache"
                    .into(),
            ));
        }
        self.losses.check()?;
        if self.on_policy.is_some() {
            if self.cache.is_some() {
                return Err(Error::Config(
                    "on_policy: a cache says nothing about text that the student draws: remove \
                     teacher.cache and name the teacher with teacher.path, or remove the table"
                        .into(),
                ));
            }
            if self.losses.divergences().next().is_none() {
                return Err(Error::Config(
                    "on_policy: on text that the student draws only divergences count: give one \
                     in [teacher.losses], such as reverse_kl, or remove the table"
                        .into(),
                ));
            }
        }
        Ok(())
    }

    /// The path of the cache, if there is one, or else of the teacher.
    pub fn source(&self) -> &Path {
        let source = self.cache.as_ref().or(self.path.as_ref());
        source.expect("check() found that there is one")
    }

    /// The first table that needs the teacher's hidden states.
    pub(crate) fn states_table(&self) -> Option<&'static str> {
        let tables = [
            ("hidden", self.hidden.is_some()),
            ("attention", self.attention.is_some()),
            ("blockwise", self.blockwise.is_some()),
        ];
        let there = tables.into_iter().find(|(_, there)| *there);
        there.map(|(table, _)| table)
    }

    /// The directory of a teacher that returns hidden states, as `table` needs.
    ///
    /// # Errors
    /// [`Error::Config`] if there is a cache or a `.gguf` file instead.
    pub(crate) fn burn_path(&self, table: &str) -> Result<&Path> {
        let gguf = |path: &&PathBuf| path.extension().is_some_and(|e| e == "gguf");
        let instead = match (&self.cache, &self.path) {
            (None, Some(path)) if !gguf(&path) => return Ok(path),
            (Some(_), _) => "a cache holds none: remove teacher.cache and set",
            (None, _) => "a .gguf file is run by an engine that shows none: set",
        };
        Err(Error::Config(format!(
            "{table}: needs the teacher's hidden states, and {instead} teacher.path to a Hugging \
             Face directory (`retort import` makes one of a .gguf file), or remove [teacher.{table}]"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{LinearSchedule, WeightSchedule};

    fn read(text: &str) -> std::result::Result<TeacherConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn teacher_table_has_defaults_and_bad_keys_are_errors() {
        let config = read("path = \"t\"").unwrap();
        assert_eq!(config.temperature, 1.0);
        assert_eq!(config.losses, LossesConfig::default());
        let text = "cache = \"c\"\n[losses]\nreverse_kl = { from = 0, to = 1, steps = 100 }";
        let losses = read(text).unwrap().losses;
        assert_eq!(losses.cross_entropy, WeightSchedule::Constant(0.0));
        let line = LinearSchedule {
            from: 0.0,
            to: 1.0,
            steps: 100,
        };
        assert_eq!(losses.reverse_kl, WeightSchedule::Linear(line));
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
            (
                "path = \"t\"\n[hidden]\nweight = 1\nlayers = \"odd\"",
                "\"even\" or a list",
            ),
            ("path = \"t\"\n[hidden]\nlayers = \"even\"", "weight"),
            (
                "cache = \"c\"\n[on_policy]\nfraction = 1\nprompt = 1\nnew_tokens = 1",
                "remove teacher.cache",
            ),
            (
                "path = \"t\"\n[losses]\ncross_entropy = 1\n[on_policy]\nfraction = 1\nprompt = 1\nnew_tokens = 1",
                "only divergences count",
            ),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(expect), "{text}: {message}");
        }
    }

    #[test]
    fn hidden_states_of_a_cache_or_gguf_are_an_error() {
        let of = |teacher: &str, table: &str| {
            let config = read(&format!("{teacher}\n{table}")).unwrap();
            let table = config.states_table().unwrap();
            config.burn_path(table).map(Path::to_owned)
        };
        for (table, name) in [
            ("[hidden]\nweight = 1", "[teacher.hidden]"),
            ("[attention]\nweight = 1", "[teacher.attention]"),
            ("[blockwise]\nsteps = 1", "[teacher.blockwise]"),
        ] {
            assert_eq!(of("path = \"t\"", table).unwrap(), Path::new("t"));
            for (teacher, remedy) in [
                ("path = \"t.gguf\"", "`retort import`"),
                ("cache = \"c\"", "remove teacher.cache"),
                ("path = \"t\"\ncache = \"c\"", "remove teacher.cache"),
            ] {
                let message = of(teacher, table).unwrap_err().to_string();
                assert!(
                    message.contains(remedy) && message.contains(name),
                    "{message}"
                );
                assert_eq!(message.lines().count(), 1, "{message}");
            }
        }
        assert_eq!(read("path = \"t\"").unwrap().states_table(), None);
    }
}
