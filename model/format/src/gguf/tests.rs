//! What is written is read back; what is damaged is refused without a panic.

use super::*;
use proptest::prelude::*;
use std::fs;

fn sample(path: &Path) {
    let mut w = Writer::new(path);
    w.set("general.architecture", "llama").unwrap();
    w.set("llama.block_count", 2u32).unwrap();
    w.set("llama.block_count", 3u32).unwrap();
    w.set("eps", 1e-5f32).unwrap();
    w.set("flag", true).unwrap();
    w.set("big", 1u64 << 40).unwrap();
    w.set(
        "tokens",
        vec!["a".to_owned(), String::new(), "ö".to_owned()],
    )
    .unwrap();
    w.set("types", vec![1i32, -2, 3]).unwrap();
    w.set("scores", vec![0.5f32]).unwrap();
    w.declare("a", &[32, 3], GgmlType::Q8_0).unwrap();
    w.declare("b", &[5], GgmlType::F32).unwrap();
    w.declare("c", &[2, 2, 2], GgmlType::F16).unwrap();
    let a: Vec<u8> = (0..102).collect();
    w.write("a", &a[..60]).unwrap();
    w.write("a", &a[60..]).unwrap();
    w.write("b", &[0; 20]).unwrap();
    w.write("c", &[7; 16]).unwrap();
    w.finish().unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    sample(&path);
    assert_eq!(names(dir.path()), ["m.gguf"]);
    let g = Gguf::open(&path).unwrap();
    assert_eq!(
        (g.version(), g.file_size()),
        (3, fs::metadata(&path).unwrap().len())
    );
    assert_eq!(g.u32("llama.block_count").unwrap(), 3);
    assert_eq!(g.str("general.architecture").unwrap(), "llama");
    assert_eq!(g.f32("eps").unwrap(), 1e-5);
    assert!(g.bool("flag").unwrap());
    assert_eq!(g.get("big"), Some(&Value::U64(1 << 40)));
    assert_eq!(g.str_array("tokens").unwrap(), ["a", "", "ö"]);
    assert_eq!(g.i32_array("types").unwrap(), [1, -2, 3]);
    assert_eq!(g.get("scores"), Some(&vec![0.5f32].into()));
    assert_eq!(g.metadata().iter().len(), 8);
    let a = g.tensor("a").unwrap();
    assert_eq!(
        (a.dims, a.ty, a.shape()),
        ([32, 3].as_slice(), GgmlType::Q8_0, (32, 3))
    );
    assert_eq!(a.data, (0..102).collect::<Vec<u8>>());
    assert_eq!(g.tensor("c").unwrap().shape(), (2, 4));
    assert_eq!(
        g.tensors().map(|t| t.data.as_ptr() as usize % 32).max(),
        Some(0)
    );
}

#[test]
fn errors_name_file_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    sample(&path);
    let g = Gguf::open(&path).unwrap();
    for (error, words) in [
        (
            g.u32("big").unwrap_err(),
            "big: is the integer 1099511627776, but an unsigned 32-bit integer is needed",
        ),
        (
            g.str("none").unwrap_err(),
            "none: missing; a string is needed",
        ),
        (
            g.i32_array("tokens").unwrap_err(),
            "tokens: is an array of 3 strings",
        ),
        (g.tensor("d").unwrap_err(), "tensor d: is not in the file"),
        (
            Gguf::open(&dir.path().join("x")).unwrap_err(),
            "x: No such file",
        ),
        (Gguf::open(dir.path()).unwrap_err(), "is not a regular file"),
    ] {
        assert!(error.to_string().contains(words), "{error}");
        assert!(
            error.to_string().contains(dir.path().to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let mut w = Writer::new(&path);
    w.declare("a", &[4], GgmlType::F32).unwrap();
    assert!(w.declare("a", &[4], GgmlType::F32).is_err());
    assert!(w.declare("odd", &[33], GgmlType::Q4_0).is_err());
    assert!(
        w.declare("huge", &[u64::MAX / 4, 9], GgmlType::F32)
            .is_err()
    );
    w.write("a", &[0; 8]).unwrap();
    assert!(w.write("a", &[0; 9]).is_err());
    assert!(w.write("b", &[0; 1]).is_err());
    assert!(w.set("late", 1u32).is_err());
    assert_eq!(names(dir.path()).len(), 1);
    let error = w.finish().unwrap_err().to_string();
    assert!(error.contains("8 of 16 bytes"), "{error}");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn impossible_counts_are_refused_before_allocating() {
    let mut head = b"GGUF\x03\0\0\0".to_vec();
    head.extend(u64::MAX.to_le_bytes());
    head.extend(u64::MAX.to_le_bytes());
    assert!(
        parse::parse(&head)
            .err()
            .unwrap()
            .contains("metadata count")
    );
    head[16..24].copy_from_slice(&0u64.to_le_bytes());
    assert!(parse::parse(&head).err().unwrap().contains("tensor count"));
    head[8..16].copy_from_slice(&0u64.to_le_bytes());
    assert!(parse::parse(&head).is_ok());
    head[4] = 1;
    assert!(parse::parse(&head).err().unwrap().contains("version 1"));
    assert!(parse::parse(b"").err().unwrap().contains("not a GGUF file"));
}

fn sample_bytes() -> Vec<u8> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let write = || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        sample(&path);
        fs::read(path).unwrap()
    };
    BYTES.get_or_init(write).clone()
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample_bytes();
    // the last tensor's padding may be missing, nothing else
    let least = bytes.len() - 16;
    for n in 0..bytes.len() {
        assert_eq!(
            parse::parse(&bytes[..n]).is_ok(),
            n >= least,
            "{n} of {} bytes",
            bytes.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damage_never_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut bytes = sample_bytes();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = parse::parse(&bytes);
        if let Ok(header) = parse::parse(&bytes[..cut.index(bytes.len())]) {
            prop_assert!(header.tensors.iter().all(|t| t.range.end <= bytes.len()));
        }
    }
}
