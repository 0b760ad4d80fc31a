//! A logit cache replaces its teacher, resumes writing, and is refused by other runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use retort_comm::ProcessGroup;
use retort_data::{Data, Rank};
use retort_distill::Teacher;
use retort_distill::cache::{
    LogitCache, Sparsification, WriteOptions, WriteProgress, WriteSummary, write,
};
use retort_model::{Sparse, Tail, TeacherLogits};
use retort_tokenizer::Tokenizer;
use retort_train::{BatchTensors, Recipe};

use crate::fixture::{distil_recipe, objective, recipe, teacher, train_recipe};

const TOP: Sparsification = Sparsification::TopK { k: 50 };

fn cached(recipe: &Recipe, dir: &Path, choice: Sparsification, until: u64) -> WriteSummary {
    let device = retort_train::device("cpu").unwrap();
    let options = WriteOptions {
        sparsification: choice,
        rows: None,
    };
    let stop = AtomicBool::new(false);
    let show = |p: WriteProgress| stop.store(p.rows >= until, Ordering::Relaxed);
    write(
        &ProcessGroup::single(),
        recipe,
        dir,
        options,
        &device,
        &stop,
        &show,
    )
    .unwrap()
}

/// The logits in the cache in `dir` of the first `n` rows of the recipe's data.
fn sparse_logits(recipe: &Recipe, dir: &Path, n: usize) -> retort_distill::Result<Sparse> {
    let tokenizer = Arc::new(Tokenizer::from_file(&recipe.data.tokenizer, None).unwrap());
    let device = retort_train::device("cpu").unwrap();
    let data = Data::open(&recipe.data, &tokenizer, None, None, &|_| {}).unwrap();
    let batch = data
        .batches(n, Rank::default(), None)
        .unwrap()
        .next_batch()
        .unwrap();
    match LogitCache::open(dir)?.logits(&BatchTensors::new(&batch, &device))? {
        TeacherLogits::Sparse(sparse) => Ok(sparse),
        TeacherLogits::Dense { .. } => panic!("a cache is sparse"),
    }
}

#[test]
fn cache_distils_like_its_teacher() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = teacher(dir);
    let path = format!("teacher.path={teacher:?}");
    let changes = [path, "seed=9".into()];
    let (first, last) = distil_recipe(recipe(dir, &tokens, &changes), &dir.join("beside"));
    for (name, choice) in [
        ("top", TOP),
        (
            "sampled",
            Sparsification::Sampled {
                draws: 64,
                proposal: 1.0,
            },
        ),
    ] {
        let cache = dir.join(name);
        let written = cached(&recipe(dir, &tokens, &changes), &cache, choice, u64::MAX);
        assert_eq!((written.rows, written.total_rows), (160, 160));
        // The file's ends alone are some bytes a position here.
        assert!(
            written.bytes_per_token < 150.0,
            "{}",
            written.bytes_per_token
        );
        let from = format!("teacher.cache={cache:?}");
        let student = recipe(dir, &tokens, &[&changes[..], &[from]].concat());
        let (cached_first, cached_last) = distil_recipe(student, &dir.join(format!("from-{name}")));
        // Of the likeliest ids alone, with one outcome for the others, less can be told apart.
        let least = if choice == TOP { 0.5 } else { 0.85 };
        let share = cached_first / first;
        assert!(
            (least..1.15).contains(&share),
            "{name}: {cached_first} {first}"
        );
        assert!(cached_last < 0.5 * first, "{name}: {cached_last} {last}");
    }
}

#[test]
fn cache_writing_resumes_to_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = teacher(dir);
    let recipe = recipe(dir, &tokens, &[format!("teacher.path={teacher:?}")]);
    let sampled = Sparsification::Sampled {
        draws: 20,
        proposal: 0.8,
    };
    for (name, choice) in [("top", TOP), ("sampled", sampled)] {
        let (whole, parts) = (
            dir.join(format!("{name}-whole")),
            dir.join(format!("{name}-parts")),
        );
        cached(&recipe, &whole, choice, u64::MAX);
        for until in [1, 40, 99] {
            let written = cached(&recipe, &parts, choice, until);
            assert!(written.rows < 160);
        }
        assert_eq!(cached(&recipe, &parts, choice, u64::MAX).rows, 160);
        assert!(parts.join("logits-00003.parquet").exists());
        let of = |dir: &Path| sparse_logits(&recipe, dir, 160).unwrap();
        assert_eq!(of(&whole), of(&parts));
        let again = cached(&recipe, &parts, choice, u64::MAX);
        assert_eq!((again.rows, again.positions), (160, 0));
    }
    let mass = sparse_logits(&recipe, &dir.join("top-whole"), 160).unwrap();
    let Tail::Mass(rest) = &mass.tail else {
        panic!("not a sample")
    };
    for (i, rest) in rest.iter().enumerate() {
        let (_, p) = mass.entries(i);
        let sum = p.iter().sum::<f32>() + rest;
        // Positions without a target have nothing.
        assert!(p.is_empty() || (sum - 1.0).abs() < 0.05, "{sum}");
    }
}

#[test]
fn cache_is_used_where_its_teacher_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = teacher(dir);
    let short = ["train.steps=5".to_owned(), "train.warmup_steps=0".into()];
    let path = format!("teacher.path={teacher:?}");
    let cache = dir.join("cache");
    let written = recipe(dir, &tokens, &[&short[..], &[path]].concat());
    cached(&written, &cache, TOP, u64::MAX);
    let elsewhere = [
        "teacher.path=not/on/this/machine".to_owned(),
        format!("teacher.cache={cache:?}"),
    ];
    let recipe = recipe(dir, &tokens, &[&short[..], &elsewhere].concat());
    objective(&recipe).unwrap();
}

#[test]
fn cache_of_another_run_is_an_error_naming_the_setting() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = teacher(dir);
    let path = format!("teacher.path={teacher:?}");
    let cache = dir.join("cache");
    let from = format!("teacher.cache={cache:?}");
    let recipe = |more: &[&str]| {
        let more = more.iter().map(|s| s.to_string());
        let changes: Vec<String> = [path.clone()].into_iter().chain(more).collect();
        recipe(dir, &tokens, &changes)
    };
    let short = ["train.steps=5", "train.warmup_steps=0"];
    cached(
        &recipe(&short),
        &cache,
        Sparsification::Sampled {
            draws: 8,
            proposal: 1.0,
        },
        u64::MAX,
    );
    for (changes, expect) in [
        (vec![], "has 20 rows, the recipe's run takes 160"),
        (
            [&short[..], &["teacher.temperature=2.0"]].concat(),
            "is for temperature 1",
        ),
        (
            [&short[..], &["data.seq_len=16"]].concat(),
            "data.seq_len 32",
        ),
        (
            [&short[..], &["train.document_attention=true"]].concat(),
            "train.document_attention false",
        ),
        (
            [&short[..], &["teacher.losses.reverse_kl=0.1"]].concat(),
            "drop teacher.losses.reverse_kl",
        ),
    ] {
        let recipe = recipe(&[&changes[..], &[&from]].concat());
        let message = objective(&recipe).map(drop).unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    // Other text is noticed at the first row.
    let other = recipe(&[&short[..], &["data.seed=5", &from]].concat());
    let message = sparse_logits(&other, &cache, 1).unwrap_err().to_string();
    assert!(message.contains("row 0: is of other text"), "{message}");
    let objective_of_other = objective(&other).unwrap();
    let device = retort_train::device("cpu").unwrap();
    let prepared = retort_train::prepare(other, &dir.join("other"), &device, false, &|_| {});
    let stop = AtomicBool::new(false);
    let outcome = retort_train::train(prepared.unwrap(), &objective_of_other, &stop, &mut |_| {});
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("row 0: is of other text"), "{message}");

    // Another teacher: its path beside the cache is held to it, and it may not go on writing.
    let changes = [
        path.clone(),
        "seed=3".into(),
        "train.steps=5".into(),
        "train.warmup_steps=0".into(),
    ];
    let another = crate::fixture::recipe(dir, &tokens, &changes);
    let (another, _) = train_recipe(another, &dir.join("another"), &retort_train::CrossEntropy);
    let named = format!("teacher.path={:?}", another.checkpoint);
    let recipe = recipe(&[&short[..], &[&named, &from]].concat());
    let message = objective(&recipe).map(drop).unwrap_err().to_string();
    assert!(message.contains("is of a teacher with hash"), "{message}");
    let device = retort_train::device("cpu").unwrap();
    let options = WriteOptions {
        sparsification: TOP,
        rows: None,
    };
    let message = write(
        &ProcessGroup::single(),
        &recipe,
        &cache,
        options,
        &device,
        &stop,
        &|_| {},
    );
    let message = message.map(drop).unwrap_err().to_string();
    assert!(
        message.contains("holds a cache of something else (teacher is"),
        "{message}"
    );
}

#[test]
fn cache_leaves_out_padding_of_the_teachers_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tokens = crate::fixture::tokenizer(dir, 300);
    let short = [
        "train.steps=2".to_owned(),
        "train.warmup_steps=0".to_owned(),
    ];
    let padded = [&short[..], &["model.vocab_size=333".to_owned()]].concat();
    let (teacher, _) = train_recipe(
        recipe(dir, &tokens, &padded),
        &dir.join("padded"),
        &retort_train::CrossEntropy,
    );
    let path = format!("teacher.path={:?}", teacher.checkpoint);
    let cache = dir.join("cache");
    let written = recipe(
        dir,
        &tokens,
        &[&short[..], std::slice::from_ref(&path)].concat(),
    );
    cached(&written, &cache, Sparsification::TopK { k: 255 }, u64::MAX);
    let found = sparse_logits(&written, &cache, 8).unwrap();
    assert_eq!(found.vocabulary, 300);
    assert!(found.ids.iter().all(|&id| id < 300) && found.ids.contains(&299));
    // A student without those rows learns from it.
    let from = format!("teacher.cache={cache:?}");
    let student = recipe(dir, &tokens, &[&short[..], &[path, from]].concat());
    let objective = objective(&student).unwrap();
    let (outcome, _) = train_recipe(student, &dir.join("student"), &objective);
    assert_eq!(outcome.step, 2);
}

#[test]
fn damaged_cache_is_an_error_naming_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = teacher(dir);
    let changes = [
        format!("teacher.path={teacher:?}"),
        "train.steps=2".into(),
        "train.warmup_steps=0".into(),
    ];
    let recipe = recipe(dir, &tokens, &changes);
    let cache = dir.join("cache");
    cached(&recipe, &cache, TOP, u64::MAX);
    let shard = cache.join("logits-00000.parquet");
    let whole = std::fs::read(&shard).unwrap();
    let sound = sparse_logits(&recipe, &cache, 8).unwrap();
    let mut failed = 0;
    for at in (0..whole.len()).step_by(101) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&shard, &bytes).unwrap();
        // What nobody reads may change (statistics, paddings): everything else is an error.
        match sparse_logits(&recipe, &cache, 8) {
            Ok(read) => assert_eq!(read, sound, "byte {at}"),
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 100, "{failed}");
    std::fs::write(&shard, &whole[..whole.len() / 2]).unwrap();
    let message = LogitCache::open(&cache).map(drop).unwrap_err().to_string();
    assert!(message.contains("logits-00000.parquet"), "{message}");
    std::fs::write(cache.join("cache.json"), "{}").unwrap();
    let message = LogitCache::open(&cache).map(drop).unwrap_err().to_string();
    assert!(message.contains("cache.json"), "{message}");
    let message = LogitCache::open(&dir.join("none"))
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(message.contains("retort distill cache"), "{message}");
}
