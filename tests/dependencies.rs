//! Holds the crates' dependency graph to the design: who may know whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const CRATES: &[&str] = &[
    "data/files",
    "model/ops",
    "model",
    "model/format",
    "data",
    "data/tokenizer",
    "train",
    "train/comm",
    "distill",
    "distill/prune",
    "infer/kernels",
    "infer/engine",
    "infer/convert",
    "infer/serve",
    "infer/edge",
    "experiments",
];

/// Which of retort's crates each may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("data/files", &[]),
    ("data/tokenizer", &["files"]),
    ("data", &["tokenizer", "files"]),
    ("model/format", &["files"]),
    ("model/ops", &["format"]),
    ("model", &["format", "ops", "files"]),
    ("infer/kernels", &["format"]),
    ("infer/engine", &["format", "kernels", "files", "tokenizer"]),
    (
        "infer/convert",
        &["format", "kernels", "engine", "files", "tokenizer"],
    ),
    (
        "infer/serve",
        &["format", "kernels", "engine", "files", "tokenizer"],
    ),
    (
        "infer/edge",
        &[
            "format",
            "kernels",
            "engine",
            "convert",
            "serve",
            "files",
            "tokenizer",
        ],
    ),
    ("train/comm", &[]),
    (
        "train",
        &["comm", "model", "format", "data", "files", "tokenizer"],
    ),
    (
        "distill",
        &[
            "comm",
            "train",
            "model",
            "data",
            "engine",
            "format",
            "files",
            "prune",
            "convert",
            "tokenizer",
        ],
    ),
    (
        "distill/prune",
        &["model", "format", "data", "files", "tokenizer"],
    ),
    (
        "experiments",
        &["engine", "format", "model", "data", "files", "tokenizer"],
    ),
];

fn dependencies(name: &str) -> BTreeSet<String> {
    let path = format!("{}/{name}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap();
    let mut section = String::new();
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.to_owned();
        } else if section.ends_with("dependencies]")
            && let Some(key) = line.split(['.', '=', ' ']).next()
            && !key.is_empty()
            && !key.starts_with('#')
        {
            found.insert(key.to_owned());
        }
    }
    found
}

#[test]
fn crates_know_only_whom_the_design_lets_them_know() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    for name in CRATES {
        for dependency in dependencies(name) {
            if let Some(other) = dependency.strip_prefix("retort-") {
                assert!(allowed[name].contains(&other), "{name} depends on {other}");
            }
        }
    }
}

#[test]
fn burn_stays_out_of_data_infer_and_experiments() {
    for name in ["model/format", "data", "infer/edge", "experiments"] {
        let burn = dependencies(name)
            .into_iter()
            .find(|d| d.starts_with("burn"));
        assert_eq!(burn, None, "{name}");
    }
    assert!(dependencies("model").contains("burn"));
}

#[test]
fn the_edge_engine_needs_no_c_compiler() {
    // Everything that retort-infer builds with, from the lock file: none of the usual
    // crates that compile C.
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let mut graph = BTreeMap::<String, Vec<String>>::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |key: &str| {
            package
                .lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix(" = ")?.split('"').nth(1))
        };
        let list = package.split_once("dependencies = [").map_or("", |d| d.1);
        let needs = list
            .lines()
            .filter_map(|l| l.split('"').nth(1)?.split(' ').next().map(str::to_owned))
            .collect();
        graph.insert(field("name").unwrap().to_owned(), needs);
    }
    // The lock file does not tell dev-dependencies apart; start from the normal ones.
    let text = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/infer/edge/Cargo.toml"
    ))
    .unwrap();
    let normal = text
        .split("[dependencies]")
        .nth(1)
        .unwrap()
        .split('[')
        .next()
        .unwrap();
    let mut queue: Vec<String> = normal
        .lines()
        .filter_map(|l| l.split(['.', ' ', '=']).next())
        .filter(|d| !d.is_empty() && !d.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = queue.pop() {
        if seen.insert(name.clone()) {
            queue.extend(graph.get(&name).into_iter().flatten().cloned());
        }
    }
    assert!(seen.contains("tokenizers"));
    for c in [
        "zstd-sys",
        "onig_sys",
        "esaxx-rs-cpp",
        "cmake",
        "bindgen",
        "aws-lc-sys",
        "ring",
    ] {
        assert!(!seen.contains(c), "retort-infer pulls in {c}");
    }
}
