//! Damaged files end in an error or run all the same, but never in a panic.

use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;
use retort_convert::export::export;
use retort_convert::import::{ImportSettings, import};
use retort_convert::pack::pack;
use retort_engine::Model;
use retort_engine::sampling::Sampling;
use retort_format::GgmlType;
use retort_test_kit::{Shape, hf, write_gguf};

fn small() -> Shape {
    Shape {
        layers: 1,
        hidden: 32,
        inner: 32,
        heads: 2,
        kv_heads: 1,
        ty: GgmlType::Q4_0,
        ..Shape::default()
    }
}

/// Opens and runs the file; what comes of it does not matter here.
fn try_to_run(path: &Path) {
    if let Ok(model) = Model::open(path) {
        let on_text = |_: &str| ControlFlow::Continue(());
        let _ = model.generate("the sea", 2, &Sampling::default(), on_text);
    }
}

/// Puts `byte` at the same share of the way through `bytes` as `place` is through u32.
fn damage(bytes: &mut [u8], changes: &[(u32, u8)]) {
    for &(place, byte) in changes {
        let at = (u64::from(place) * bytes.len() as u64) >> 32;
        bytes[at as usize] = byte;
    }
}

/// Imports the file: a complete directory or none, and nothing beside it.
fn try_to_import(path: &Path) -> Result<(), TestCaseError> {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("model");
    let imported = import(path, &out, &ImportSettings::default(), |_| {});
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().flatten().collect();
    prop_assert_eq!(left.len(), usize::from(imported.is_ok()), "{:?}", imported);
    if imported.is_ok() {
        prop_assert!(out.join("model.safetensors").exists() && out.join("tokenizer.json").exists());
    }
    Ok(())
}

proptest! {
    #[test]
    fn gguf_with_other_bytes_is_imported_whole_or_not_at_all(
        changes in prop::collection::vec(any::<(u32, u8)>(), 1..6),
        header: bool,
        architecture in prop::sample::select(vec!["llama", "qwen", "qwen2", "qwen3"]),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.gguf");
        let kv_heads = if architecture == "qwen" { 2 } else { 1 };
        write_gguf(&path, &Shape { architecture, kv_heads, ..small() });
        let mut bytes = std::fs::read(&path).unwrap();
        let end = if header { 700 } else { bytes.len() };
        damage(&mut bytes[..end], &changes);
        std::fs::write(&path, &bytes).unwrap();
        try_to_import(&path)?;
    }

    #[test]
    fn gguf_cut_short_is_not_imported(share in 0.0f64..1.0) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.gguf");
        write_gguf(&path, &small());
        let bytes = std::fs::read(&path).unwrap();
        // the last tensor's padding may be missing, nothing else
        let end = ((bytes.len() - 32) as f64 * share) as usize;
        std::fs::write(&path, &bytes[..end]).unwrap();
        try_to_import(&path)?;
        prop_assert!(retort_format::gguf::Gguf::open(&path).is_err());
    }

    #[test]
    fn gguf_with_other_bytes(changes in prop::collection::vec(any::<(u32, u8)>(), 1..6), header: bool) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.gguf");
        write_gguf(&path, &small());
        let mut bytes = std::fs::read(&path).unwrap();
        // the metadata before the long lists of tokens and merges
        let end = if header { 700 } else { bytes.len() };
        damage(&mut bytes[..end], &changes);
        std::fs::write(&path, &bytes).unwrap();
        try_to_run(&path);
    }

    #[test]
    fn packed_gguf_with_other_bytes(
        changes in prop::collection::vec(any::<(u32, u8)>(), 1..6),
        ty in prop::sample::select(vec![GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0]),
        tied: bool,
        part in 0..3usize,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (plain, path) = (directory.path().join("plain.gguf"), directory.path().join("model.gguf"));
        write_gguf(&plain, &Shape { ty, tied, ..small() });
        pack(&plain, &path, |_, _| {}).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        // the metadata; the list of tensors, which names end that say how they lie; anything
        let first = bytes.windows(7).position(|word| word == b".rows16").unwrap();
        let last = bytes.windows(7).rposition(|word| word == b".rows16").unwrap();
        let range = [0..700, first - 20..last + 40, 0..bytes.len()][part].clone();
        damage(&mut bytes[range], &changes);
        std::fs::write(&path, &bytes).unwrap();
        try_to_run(&path);
    }

    #[test]
    fn checkpoints_with_other_bytes(
        changes in prop::collection::vec(any::<(u32, u8)>(), 1..4),
        file in prop::sample::select(vec!["config.json", "tokenizer.json", "model.safetensors"]),
    ) {
        let directory = tempfile::tempdir().unwrap();
        hf::write_directory(directory.path(), &small());
        let path = directory.path().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len().min(3000);
        damage(&mut bytes[..end], &changes);
        std::fs::write(&path, &bytes).unwrap();
        let out = directory.path().join("model.gguf");
        if export(directory.path(), &out, GgmlType::Q4_0, |_| {}).is_ok() {
            try_to_run(&out);
        }
    }
}
