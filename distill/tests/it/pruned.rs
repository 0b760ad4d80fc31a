//! Training starts from a student that `retort-prune` cut out of a parent.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use retort_distill::TeacherConfig;
use retort_prune::{LayerSelection, PruneOptions, TargetSizes, TextSource, prune};
use retort_train::{CrossEntropy, NoTeacher, Recipe};

use serde::de::DeserializeOwned;

use crate::fixture::{deep_teacher, distil_recipe, train_recipe};

/// Cuts a student out of the model in `parent`, for which `dir` has a corpus.
fn cut(parent: &Path, dir: &Path, sizes: TargetSizes) -> std::path::PathBuf {
    let text = Some(TextSource {
        source: dir.join("corpus").to_str().unwrap().to_owned(),
        tokens: 1024,
    });
    let options = PruneOptions {
        sizes,
        layer_selection: LayerSelection::EvenlySpaced,
        calibration_text: text.clone(),
        seq_len: 32,
        vocabulary_text: text,
        ..PruneOptions::default()
    };
    let (out, stop) = (dir.join("pruned"), AtomicBool::new(false));
    prune(parent, &out, &options, &Device::flex(), &stop, &|_| {}).unwrap();
    out
}

fn recipe<Teacher: DeserializeOwned>(
    dir: &Path,
    tokenizer: &Path,
    student: &Path,
    more: &str,
) -> Recipe {
    let text = format!(
        "[data]\nsource = {:?}\ntokenizer = {tokenizer:?}\nseq_len = 32\n[model]\nfrom = {student:?}\n\
         [train]\nsteps = 20\nbatch_size = 4\nlr = 1e-3\n{more}",
        dir.join("corpus")
    );
    Recipe::parse::<Teacher>(&text, Path::new("r.toml"), &[]).unwrap()
}

#[test]
fn pruned_student_is_distilled_from_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (parent, tokenizer) = deep_teacher(dir, 32);
    let sizes = TargetSizes {
        layers: Some(2),
        mlp: Some(48),
        ..TargetSizes::default()
    };
    let student = cut(&parent, dir, sizes);
    let teacher = format!("[teacher]\npath = {parent:?}\n[teacher.losses]\nforward_kl = 1.0\n");
    let recipe = recipe::<TeacherConfig>(dir, &tokenizer, &student, &teacher);
    let (first, last) = distil_recipe(recipe, &dir.join("run"));
    assert!(last < first, "{first} -> {last}");
}

#[test]
fn pruned_student_with_a_smaller_vocabulary_trains_with_its_own_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (parent, _) = deep_teacher(dir, 64);
    let sizes = TargetSizes {
        parameters: Some(31_000),
        vocabulary: Some(280),
        ..TargetSizes::default()
    };
    let student = cut(&parent, dir, sizes);
    let recipe = recipe::<NoTeacher>(dir, &student, &student, "");
    let (outcome, _) = train_recipe(recipe, &dir.join("run"), &CrossEntropy);
    assert_eq!(outcome.step, 20);
}
