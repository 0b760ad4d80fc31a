//! A student distilled from a small teacher comes nearer to it, whoever runs the teacher; a
//! teacher with another tokenizer is refused.

mod blockwise;
mod cache;
mod matching;
mod on_policy;
mod quantized;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use retort_data::{Data, Rank, Shards, SourceOptions, Tokenizer, stories};
use retort_distill::teacher::{BurnTeacher, EngineTeacher};
use retort_distill::{Distillation, Teach, TeacherConfig};
use retort_format::GgmlType;
use retort_model::TeacherLogits;
use retort_train::{BatchTensors, CrossEntropy, Event, Objective, Outcome, Recipe, prepare, train};

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
    [teacher.losses]
    forward_kl = 1.0
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

/// Trains and answers with every step's forward divergence (or none).
fn go(recipe: Recipe, run: &Path, objective: &dyn Objective) -> (Outcome, Vec<f64>) {
    let device = retort_train::device("cpu").unwrap();
    let prepared = prepare(recipe, run, &device, false, &|_| {}).unwrap();
    let mut kl = Vec::new();
    let stop = AtomicBool::new(false);
    let outcome = train(prepared, objective, &stop, &mut |event| {
        if let Event::Step(m) = event {
            kl.extend(m.parts.get("forward_kl").and_then(|v| v.as_f64()));
        }
    });
    (outcome.unwrap(), kl)
}

/// Trains until step `until` (or the end), as if interrupted there; goes on if something is there.
fn go_until(recipe: &Recipe, run: &Path, until: u64) -> Outcome {
    let objective = objective(recipe).unwrap();
    let device = retort_train::device("cpu").unwrap();
    let prepared = prepare(recipe.clone(), run, &device, run.exists(), &|_| {}).unwrap();
    let stop = AtomicBool::new(false);
    let outcome = train(prepared, &objective, &stop, &mut |event| {
        if let Event::Step(m) = event {
            stop.store(m.step >= until, Ordering::Relaxed);
        }
    });
    outcome.unwrap()
}

/// A run of `recipe`, and one stopped after each of `stops` and gone on with: they must have the
/// same losses and, in each of `files`, the same bits. Answers the first.
fn same_when_resumed(recipe: &Recipe, dir: &Path, stops: &[u64], files: &[&str]) -> Outcome {
    let (whole, parts) = (dir.join("whole"), dir.join("parts"));
    let end = go_until(recipe, &whole, u64::MAX);
    for &stop in stops {
        let outcome = go_until(recipe, &parts, stop);
        assert_eq!((outcome.step, outcome.stopped), (stop, true));
    }
    let resumed = go_until(recipe, &parts, u64::MAX);
    assert_eq!(losses(&whole), losses(&parts));
    for file in files {
        let of = |outcome: &Outcome| fs::read(outcome.checkpoint.join(file)).unwrap();
        assert!(of(&end) == of(&resumed), "{file} differs");
    }
    end
}

/// The steps in `run/metrics.jsonl`.
fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let all = text.lines().map(|l| serde_json::from_str(l).unwrap());
    all.filter(|v: &serde_json::Value| v.get("grad_norm").is_some())
        .collect()
}

/// Their losses and norms, to the last digit.
fn losses(run: &Path) -> Vec<String> {
    let line = |v: &serde_json::Value| format!("{} {} {}", v["step"], v["loss"], v["grad_norm"]);
    metrics(run).iter().map(line).collect()
}

/// The part called `name` of every step that has it.
fn part(run: &Path, name: &str) -> Vec<f64> {
    metrics(run)
        .iter()
        .filter_map(|v| v[name].as_f64())
        .collect()
}

/// A teacher of three layers, wider than the students here, and its tokenizer.
fn deep_teacher(dir: &Path, width: usize) -> (PathBuf, PathBuf) {
    let tokens = tokenizer(dir, 300);
    let changes = [
        "model.num_hidden_layers=3".to_owned(),
        format!("model.hidden_size={width}"),
    ];
    let recipe = recipe(dir, &tokens, &changes);
    let (teacher, _) = go(recipe, &dir.join("deep-teacher"), &CrossEntropy);
    (teacher.checkpoint, tokens)
}

/// A teacher in `dir`, trained for 40 steps, and its tokenizer.
fn teacher(dir: &Path) -> (PathBuf, PathBuf) {
    let tokens = tokenizer(dir, 300);
    let run = dir.join("teacher");
    let (teacher, _) = go(recipe(dir, &tokens, &[]), &run, &CrossEntropy);
    (teacher.checkpoint, tokens)
}

/// The objective of `recipe`.
fn objective(recipe: &Recipe) -> retort_distill::Result<Distillation> {
    let config = TeacherConfig::from_table(recipe.teacher.as_ref())?;
    let tokenizer = Tokenizer::from_file(&recipe.data.tokenizer, None)?;
    let device = retort_train::device("cpu").unwrap();
    Distillation::open(config, &tokenizer, &device, recipe)
}

/// Distils and answers with the divergences in the first and in the last five steps.
fn distil(recipe: Recipe, run: &Path) -> (f64, f64) {
    let objective = objective(&recipe).unwrap();
    let (_, kl) = go(recipe, run, &objective);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    (mean(&kl[..5]), mean(&kl[kl.len() - 5..]))
}

/// The teacher as a file for the edge engine.
fn as_gguf(checkpoint: &Path, quant: GgmlType) -> PathBuf {
    let path = checkpoint.with_extension("gguf");
    retort_convert::export::export(checkpoint, &path, quant, |_| {}).unwrap();
    path
}

#[test]
fn a_student_comes_nearer_to_its_teacher() {
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
        let (first, last) = distil(student, &dir.join(name));
        assert!(last < 0.5 * first, "{name}: {first} -> {last}");
    }
}

/// The lesson's logits.
fn logits(lesson: &TeacherLogits, n: usize) -> Vec<f32> {
    match lesson {
        TeacherLogits::Dense { logits, .. } => logits(0..n),
        TeacherLogits::Sparse(_) => panic!("a running teacher has logits"),
    }
}

#[test]
fn the_engine_teaches_what_burn_does() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = teacher(dir);
    let recipe = recipe(dir, &tokens, &[]);
    let tokenizer = Arc::new(Tokenizer::from_file(&tokens, None).unwrap());
    let device = retort_train::device("cpu").unwrap();
    let burn = BurnTeacher::load(&teacher, &tokenizer, &device).unwrap();
    let gguf = as_gguf(&teacher, GgmlType::F32);
    let engine = EngineTeacher::load(&gguf, &tokenizer).unwrap();
    assert_eq!(burn.vocabulary(), engine.vocabulary());
    // What a plan counts of them, without either, is the same; a file of f32 is little more than its weights.
    let counted = [&teacher, &gguf].map(|path| {
        let table = format!("path = {path:?}").parse().unwrap();
        let config = TeacherConfig::from_table(Some(&table)).unwrap();
        retort_distill::teacher::takes(&config, 32)
            .unwrap()
            .unwrap()
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
            let [a, b] = [&burn as &dyn Teach, &engine].map(|teacher| {
                let lesson = teacher.lesson(&tensors).unwrap();
                logits(&lesson, 512)
            });
            assert_eq!((a.len(), b.len()), (512 * 300, 512 * 300));
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() < 2e-3, "{documents}: {a} {b}");
            }
        }
    }
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
