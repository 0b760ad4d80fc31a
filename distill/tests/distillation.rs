//! A student distilled from a small teacher comes nearer to it; a teacher with another
//! tokenizer is refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use retort_data::{Shards, SourceOptions, Tokenizer, stories};
use retort_distill::{Distillation, Teacher, TeacherConfig};
use retort_train::{CrossEntropy, Event, Objective, Outcome, Recipe, prepare, train};

const TEXT: &str = r#"
    [data]
    source = "-"
    tokenizer = "-"
    seq_len = 32
    [model]
    hidden_size = 32
    intermediate_size = 64
    num_hidden_layers = 1
    num_attention_heads = 2
    [train]
    steps = 40
    batch_size = 4
    lr = 1e-2
    warmup_steps = 4
    [teacher]
    path = "-"
    kl_weight = 1.0
"#;

fn tokenizer(dir: &Path, vocabulary: usize) -> std::path::PathBuf {
    let corpus = dir.join("corpus");
    stories::write_parquet(&corpus, &stories::generate(1, 300), 1).unwrap();
    let shards = Shards::resolve(corpus.to_str().unwrap(), &SourceOptions::default()).unwrap();
    let out = dir.join(format!("tokenizer-{vocabulary}"));
    fs::create_dir_all(&out).unwrap();
    let tokenizer = retort_data::train_tokenizer(&Arc::new(shards), vocabulary, &|_| {}).unwrap();
    tokenizer.save(&out).unwrap();
    out
}

fn recipe(dir: &Path, tokenizer: &Path, changes: &[String]) -> Recipe {
    let mut set = vec![
        format!("data.source={:?}", dir.join("corpus")),
        format!("data.tokenizer={tokenizer:?}"),
    ];
    set.extend_from_slice(changes);
    Recipe::parse(TEXT, Path::new("test.toml"), &set).unwrap()
}

/// Trains and answers with every step's `kl` (or none).
fn go(recipe: Recipe, run: &Path, objective: &dyn Objective) -> (Outcome, Vec<f64>) {
    let device = retort_train::device("cpu").unwrap();
    let prepared = prepare(recipe, run, &device, false, &|_| {}).unwrap();
    let mut kl = Vec::new();
    let stop = AtomicBool::new(false);
    let outcome = train(prepared, objective, &stop, &mut |event| {
        if let Event::Step(m) = event {
            kl.extend(m.parts.get("kl").and_then(|v| v.as_f64()));
        }
    });
    (outcome.unwrap(), kl)
}

#[test]
fn a_student_comes_nearer_to_its_teacher() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tokens = tokenizer(dir, 300);
    let (teacher, _) = go(
        recipe(dir, &tokens, &[]),
        &dir.join("teacher"),
        &CrossEntropy,
    );
    let student = recipe(
        dir,
        &tokens,
        &[
            format!("teacher.path={:?}", teacher.checkpoint),
            "seed=9".into(),
        ],
    );
    let config = TeacherConfig::from_table(student.teacher.as_ref()).unwrap();
    let ours = Tokenizer::from_file(&tokens, None).unwrap();
    let device = retort_train::device("cpu").unwrap();
    let loaded = Teacher::load(&config.path, &ours, &device).unwrap();
    let objective = Distillation::new(loaded, config);
    let (_, kl) = go(student, &dir.join("student"), &objective);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (first, last) = (mean(&kl[..5]), mean(&kl[35..]));
    assert!(kl.iter().all(|&k| k >= -1e-6));
    assert!(last < 0.5 * first, "{first} -> {last}");
}

#[test]
fn a_teacher_with_another_tokenizer_is_refused_with_the_first_differing_id() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let theirs = tokenizer(dir, 300);
    let short = recipe(
        dir,
        &theirs,
        &["train.steps=1".into(), "train.warmup_steps=0".into()],
    );
    let (teacher, _) = go(short, &dir.join("teacher"), &CrossEntropy);
    let ours = Tokenizer::from_file(tokenizer(dir, 310), None).unwrap();
    let device = retort_train::device("cpu").unwrap();
    let message = Teacher::load(&teacher.checkpoint, &ours, &device)
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(message.contains("id 300 is absent"), "{message}");
}
