//! Whether a run goes on with the recipe that it was started with.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Error, Result};
use crate::recipe::Recipe;

/// Keys that may differ between a run and its resumption: they do not touch the weights.
const FREE: &[(&str, &[&str])] = &[
    (
        "train",
        &[
            "eval_every",
            "checkpoint_every",
            "keep_checkpoints",
            "keep_best",
            "sample_every",
            "sample_prompts",
            "sample_tokens",
            "sample_temperature",
        ],
    ),
    ("data", &["threads", "disk_budget"]),
];

/// Whether `recipe` may go on with what is in directory `run`.
///
/// # Errors
/// It differs from the recipe there in a key that touches the weights; all of them are named.
pub(super) fn check_same_recipe(recipe: &Recipe, run: &Path) -> Result<()> {
    let path = run.join("recipe.toml");
    // Its [teacher] is compared as written.
    let before = Recipe::load::<toml::Table>(&path, &[])?;
    let table = |recipe: &Recipe| -> toml::Table {
        let mut table: toml::Table = recipe.to_toml().parse().expect("to_toml writes TOML");
        table.remove("tasks");
        for (section, keys) in FREE {
            if let Some(toml::Value::Table(section)) = table.get_mut(*section) {
                section.retain(|key, _| !keys.contains(&key));
            }
        }
        table
    };
    let (before, now) = (table(&before), table(recipe));
    if before == now {
        return Ok(());
    }
    let mut differing = Vec::new();
    let sections: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    for section in sections {
        match (before.get(section), now.get(section)) {
            (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) => {
                let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
                let changed = keys.into_iter().filter(|k| a.get(*k) != b.get(*k));
                differing.extend(changed.map(|k| format!("{section}.{k}")));
            }
            (a, b) if a != b => differing.push(section.clone()),
            _ => {}
        }
    }
    Err(Error::invalid(
        run,
        format!(
            "was started with another recipe (it differs in {}): \
             restore the recipe, or start another --run directory",
            differing.join(", ")
        ),
    ))
}
