//! The recipes in `experiments/recipes`.

use std::path::{Path, PathBuf};

fn recipes(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            recipes(&path, found);
        } else if path.extension().is_some_and(|e| e == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn every_recipe_of_the_repository_parses() {
    let mut found = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/recipes");
    recipes(&folder, &mut found);
    assert!(found.len() >= 5, "{found:?}");
    for path in found {
        retort_train::Recipe::load::<retort_distill::TeacherConfig>(&path, &[]).unwrap();
    }
}
