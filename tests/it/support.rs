//! The `retort` command as tests call it, and a directory to call it in.

use std::fs;
use std::path::Path;

use assert_cmd::Command;

/// Runs `retort` in `cwd`: whether it succeeded, its standard output and its standard error.
pub fn retort(args: &[&str], cwd: &Path) -> (bool, String, String) {
    let output = Command::cargo_bin("retort")
        .unwrap()
        .args(args)
        .current_dir(cwd)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Runs what must fail; answers the error after checking that it is one line.
pub fn refused(args: &[&str], cwd: &Path) -> String {
    let (ok, stdout, stderr) = retort(args, cwd);
    assert!(!ok, "{args:?} succeeded");
    assert_eq!(stdout, "", "{args:?}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    stderr
}

/// The names in `dir`, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A run of three steps on a tiny model.
pub const RECIPE: &str = r#"
[data]
source = "corpus"
tokenizer = "tokenizer"
seq_len = 32
validation_fraction = 0.1
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 1
num_attention_heads = 2
[train]
steps = 3
batch_size = 2
lr = 1e-3
"#;

/// A directory with `corpus`, `tokenizer` and `recipe.toml`.
pub fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus");
    retort_test_kit::write_corpus(&corpus, 200, 2);
    retort_test_kit::write_tokenizer(&dir.path().join("tokenizer"), &corpus, 300);
    fs::write(dir.path().join("recipe.toml"), RECIPE).unwrap();
    dir
}
