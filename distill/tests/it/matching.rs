//! Matching hidden states: the error falls, runs resume exactly, the model has no projections.

use std::fs;

use retort_format::GgmlType;

use crate::fixture::{as_gguf, assert_resume_is_exact, deep_teacher, loss_part, objective, recipe};

fn changes(teacher: &std::path::Path, more: &[&str]) -> Vec<String> {
    let mut all = vec![
        format!("teacher.path={teacher:?}"),
        "model.num_hidden_layers=2".into(),
        "seed=9".into(),
    ];
    all.extend(more.iter().map(|s| s.to_string()));
    all
}

#[test]
fn hidden_state_matching_lowers_the_error_and_resumes_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = deep_teacher(dir, 48);
    for (name, more) in [
        ("at-once", vec![]),
        ("sparing", vec!["train.activation_checkpointing=true"]),
        (
            "documents",
            vec![
                "train.document_attention=true",
                "train.accumulate=2",
                "train.ema_decay=0.9",
            ],
        ),
    ] {
        let more = [
            &more[..],
            &[
                "teacher.hidden={ weight = { from = 1.0, to = 0.5, steps = 30 } }",
                "teacher.attention={ weight = 0.5, layers = [[0, 1], [1, 2]] }",
            ],
        ]
        .concat();
        let recipe = recipe(dir, &tokens, &changes(&teacher, &more));
        let runs = dir.join(name);
        let files = ["model.safetensors", "projections.safetensors"];
        let end = assert_resume_is_exact(&recipe, &runs, &[3, 20], &files);
        for part_name in ["hidden", "attention"] {
            let error = loss_part(&runs.join("whole"), part_name);
            assert_eq!(error.len(), 40, "{part_name}");
            let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
            let (first, last) = (mean(&error[..3]), mean(&error[37..]));
            assert!(
                last < 0.75 * first,
                "{name}, {part_name}: {first} -> {last}"
            );
        }
        // Two matrices of 32 × 48 for either table, and none of them in the model.
        let projections = fs::metadata(end.checkpoint.join("projections.safetensors")).unwrap();
        assert!(projections.len() > 4 * 4 * 32 * 48);
        let (config, _) =
            retort_model::load(&end.checkpoint, &burn::tensor::Device::flex()).unwrap();
        assert_eq!((config.hidden_size, config.num_hidden_layers), (32, 2));
    }
}

#[test]
fn missing_projections_are_an_error_naming_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = deep_teacher(dir, 48);
    let recipe = recipe(
        dir,
        &tokens,
        &changes(&teacher, &["teacher.hidden.weight=1.0"]),
    );
    let run = dir.join("run");
    let stopped = crate::fixture::train_until(&recipe, &run, 2);
    fs::remove_file(stopped.checkpoint.join("projections.safetensors")).unwrap();
    let device = retort_train::device("cpu").unwrap();
    let prepared = retort_train::prepare(recipe.clone(), &run, &device, true, &|_| {}).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let objective = objective(&recipe).unwrap();
    let outcome = retort_train::train(prepared, &objective, &stop, &mut |_| {});
    let message = outcome.map(drop).unwrap_err().to_string();
    assert!(message.contains("projections.safetensors"), "{message}");
}

#[test]
fn models_of_one_width_match_without_projections() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = deep_teacher(dir, 32);
    let without = "teacher.hidden={ weight = 1.0, projection = false }";
    let student = recipe(dir, &tokens, &changes(&teacher, &[without]));
    let end = crate::fixture::train_until(&student, &dir.join("run"), u64::MAX);
    assert!(!end.checkpoint.join("projections.safetensors").exists());
    let error = loss_part(&dir.join("run"), "hidden");
    assert!(error[39] < 0.75 * error[0], "{error:?}");

    // The teacher itself is at no distance.
    let itself = format!("model={{ from = {teacher:?} }}");
    let more = [
        itself.as_str(),
        without,
        "train.steps=1",
        "train.warmup_steps=0",
    ];
    let changes: Vec<String> = changes(&teacher, &more)
        .into_iter()
        .filter(|c| !c.starts_with("model.num"))
        .collect();
    let same = recipe(dir, &tokens, &changes);
    crate::fixture::train_until(&same, &dir.join("same"), u64::MAX);
    let error = loss_part(&dir.join("same"), "hidden");
    assert!(error[0] < 1e-9, "{error:?}");
}

#[test]
fn impossible_matching_table_is_an_error_naming_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = deep_teacher(dir, 48);
    let gguf = as_gguf(&teacher, GgmlType::Q8_0);
    for (path, more, expect) in [
        (&gguf, vec!["teacher.hidden.weight=1.0"], "`retort import`"),
        (
            &teacher,
            vec!["teacher.attention.weight=1.0", "teacher.cache=\"c\""],
            "remove teacher.cache",
        ),
        (
            &teacher,
            vec!["teacher.hidden={ weight = 1.0, projection = false }"],
            "one width, these have 32 and 48",
        ),
        (
            &teacher,
            vec!["teacher.hidden={ weight = 1.0, layers = [[0, 3]] }"],
            "the teacher has 3 layers",
        ),
        (
            &teacher,
            vec!["teacher.hidden.weight=-1.0"],
            "hidden.weight",
        ),
        (
            &teacher,
            vec!["teacher.blockwise.steps=2"],
            "the student's is 32, the teacher's 48",
        ),
    ] {
        let recipe = recipe(dir, &tokens, &changes(path, &more));
        let message = objective(&recipe).map(drop).unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
