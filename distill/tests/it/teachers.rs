//! Teachers in Burn and in the edge engine, and their tokenizers.

use std::path::Path;
use std::sync::Arc;

use retort_data::{Data, Rank};
use retort_distill::teacher::{BurnTeacher, EngineTeacher};
use retort_distill::{Teacher, TeacherConfig};
use retort_format::GgmlType;
use retort_model::TeacherLogits;
use retort_tokenizer::Tokenizer;
use retort_train::{BatchTensors, CrossEntropy};

use crate::fixture::{as_gguf, distil_recipe, recipe, teacher, tokenizer, train_recipe};

#[test]
fn distillation_lowers_the_divergence_from_burn_and_engine_teachers() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = teacher(dir);
    let path = |path: &Path| format!("teacher.path={path:?}");
    for (name, changes) in [
        ("burn", vec![path(&teacher)]),
        ("engine", vec![path(&as_gguf(&teacher, GgmlType::Q8_0))]),
        (
            "mixed",
            vec![
                path(&teacher),
                "teacher.temperature=2.0".into(),
                "teacher.losses.reverse_kl={ from = 1.0, to = 0.0, steps = 30 }".into(),
                "teacher.losses.jensen_shannon=0.5".into(),
                "teacher.losses.total_variation=0.5".into(),
            ],
        ),
    ] {
        let student = recipe(dir, &tokens, &[changes, vec!["seed=9".into()]].concat());
        let (first, last) = distil_recipe(student, &dir.join(name));
        assert!(last < 0.5 * first, "{name}: {first} -> {last}");
    }
}

/// The logits of the first `n` positions.
fn dense_logits(logits: &TeacherLogits, n: usize) -> Vec<f32> {
    match logits {
        TeacherLogits::Dense { logits, .. } => logits(0..n),
        TeacherLogits::Sparse(_) => panic!("a running teacher has logits"),
    }
}

#[test]
fn engine_teacher_has_the_burn_teachers_logits_and_cost() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = teacher(dir);
    let recipe = recipe(dir, &tokens, &[]);
    let tokenizer = Arc::new(Tokenizer::from_file(&tokens, None).unwrap());
    let device = retort_train::device("cpu").unwrap();
    let burn = BurnTeacher::load(&teacher, &tokenizer, &device).unwrap();
    let gguf = as_gguf(&teacher, GgmlType::F32);
    let engine = EngineTeacher::load(&gguf, &tokenizer).unwrap();
    assert_eq!(burn.vocab_size(), engine.vocab_size());
    // What a plan counts of them, without either, is the same; a file of f32 is little more than its weights.
    let counted = [&teacher, &gguf].map(|path| {
        let config: TeacherConfig = toml::from_str(&format!("path = {path:?}")).unwrap();
        retort_distill::teacher_cost(&config, 32).unwrap().unwrap()
    });
    assert_eq!(counted[0].flops_per_token, counted[1].flops_per_token);
    assert!(counted[0].bytes < counted[1].bytes && counted[1].bytes < 2 * counted[0].bytes);
    let data = Data::open(&recipe.data, &tokenizer, None, None, &|_| {}).unwrap();
    let batch = data
        .batches(16, Rank::default(), None)
        .unwrap()
        .next_batch()
        .unwrap();
    assert!(
        batch.documents.iter().any(|&d| d > 0),
        "rows of several documents"
    );
    for documents in [true, false] {
        for device in [device.clone(), device.clone().autodiff()] {
            let tensors = BatchTensors::new(&batch, &device).within_documents(&batch, documents);
            let [a, b] = [&burn as &dyn Teacher, &engine]
                .map(|teacher| dense_logits(&teacher.logits(&tensors).unwrap(), 512));
            assert_eq!((a.len(), b.len()), (512 * 300, 512 * 300));
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() < 2e-3, "{documents}: {a} {b}");
            }
        }
    }
}

#[test]
fn teacher_with_another_tokenizer_is_an_error_naming_the_first_id() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let theirs = tokenizer(dir, 300);
    let short = recipe(
        dir,
        &theirs,
        &["train.steps=1".into(), "train.warmup_steps=0".into()],
    );
    let (teacher, _) = train_recipe(short, &dir.join("teacher"), &CrossEntropy);
    let ours = Tokenizer::from_file(tokenizer(dir, 310), None).unwrap();
    let device = retort_train::device("cpu").unwrap();
    let message = BurnTeacher::load(&teacher.checkpoint, &ours, &device)
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(message.contains("id 300 is absent"), "{message}");
    let gguf = as_gguf(&teacher.checkpoint, GgmlType::Q8_0);
    let message = EngineTeacher::load(&gguf, &ours).map(drop).unwrap_err();
    assert!(
        message.to_string().contains("id 300 is absent"),
        "{message}"
    );
}
