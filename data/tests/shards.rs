//! Shards as they come: every layout of C4's columns, and files that are not what they should be.

mod support;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, LargeStringArray, NullArray, StringArray, StringViewArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use retort_data::{Error, TimestampKind, documents, inspect, resolve, shard_info};
use support::{parquet, story_shards, text_shard, tokenizer};

fn texts(path: &Path) -> Result<Vec<(u64, String)>, Error> {
    documents(&[path.to_owned()])
        .map(|d| d.map(|d| (d.row, d.text)))
        .collect()
}

#[test]
fn every_layout_of_the_columns_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let values = [
        Some("one"),
        None,
        Some(""),
        Some("four ünïcødé"),
        Some("five"),
    ];
    let text: [ArrayRef; 3] = [
        Arc::new(StringArray::from(values.to_vec())),
        Arc::new(LargeStringArray::from(values.to_vec())),
        Arc::new(StringViewArray::from(values.to_vec())),
    ];
    let stamps = [Some(1), None, Some(3), Some(4), Some(5)].to_vec();
    let zoned = TimestampMicrosecondArray::from(stamps.clone()).with_timezone("UTC");
    let iso = "2019-04-25T12:57:54Z";
    let unit = |unit: &str| TimestampKind::Timestamp(unit.into());
    let timestamp: [(Option<ArrayRef>, TimestampKind); 9] = [
        (
            Some(Arc::new(TimestampSecondArray::from(stamps.clone()))),
            unit("s"),
        ),
        (
            Some(Arc::new(TimestampMillisecondArray::from(stamps.clone()))),
            unit("ms"),
        ),
        (
            Some(Arc::new(TimestampMicrosecondArray::from(stamps.clone()))),
            unit("µs"),
        ),
        (Some(Arc::new(zoned)), unit("µs")),
        (
            Some(Arc::new(TimestampNanosecondArray::from(stamps.clone()))),
            unit("ns"),
        ),
        (
            Some(Arc::new(StringArray::from(vec![Some(iso); 5]))),
            TimestampKind::String,
        ),
        (Some(Arc::new(NullArray::new(5))), TimestampKind::Null),
        (
            Some(Arc::new(Int64Array::from(stamps))),
            TimestampKind::Other("Int64".into()),
        ),
        (None, TimestampKind::Absent),
    ];
    for text in &text {
        for (timestamp, kind) in &timestamp {
            let path = dir.path().join("shard.parquet");
            let url: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; 5]));
            let mut columns = vec![("url", url), ("text", text.clone())];
            columns.extend(timestamp.clone().map(|column| ("timestamp", column)));
            parquet(&path, columns, 2);
            let read = texts(&path).unwrap();
            let rows: Vec<(u64, &str)> = read.iter().map(|(r, t)| (*r, t.as_str())).collect();
            assert_eq!(
                rows,
                [(0, "one"), (2, ""), (3, "four ünïcødé"), (4, "five")]
            );
            let info = shard_info(&path).unwrap();
            assert_eq!((&info.timestamp, info.rows, info.row_groups), (kind, 5, 3));
        }
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let message = |path: &Path| {
        let error = texts(path).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(path.file_name().unwrap().to_str().unwrap()),
            "{message}"
        );
        (error, message)
    };

    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    parquet(
        &file("columns.parquet"),
        vec![("content", numbers.clone())],
        10,
    );
    let (error, text) = message(&file("columns.parquet"));
    assert!(
        matches!(error, Error::NoText { .. }) && text.contains("`content` (Int64)"),
        "{text}"
    );

    parquet(&file("int.parquet"), vec![("text", numbers)], 10);
    let (error, text) = message(&file("int.parquet"));
    assert!(
        matches!(error, Error::TextType { .. }) && text.contains("Int64"),
        "{text}"
    );

    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![b"\xff\xfe".as_slice()]));
    parquet(&file("bytes.parquet"), vec![("text", bytes)], 10);
    assert!(matches!(
        message(&file("bytes.parquet")).0,
        Error::TextType { .. }
    ));

    std::fs::write(file("garbage.parquet"), b"this is no parquet file at all").unwrap();
    assert!(matches!(
        message(&file("garbage.parquet")).0,
        Error::Parquet { .. }
    ));
    std::fs::write(file("empty.parquet"), b"").unwrap();
    assert!(matches!(
        message(&file("empty.parquet")).0,
        Error::Parquet { .. }
    ));
    assert!(matches!(
        message(&file("missing.parquet")).0,
        Error::Io { .. }
    ));

    let whole = std::fs::read(&story_shards(dir.path())[0]).unwrap();
    std::fs::write(file("cut.parquet"), &whole[..whole.len() / 2]).unwrap();
    let (error, text) = message(&file("cut.parquet"));
    assert!(
        matches!(error, Error::Parquet { .. }) && text.contains("truncated"),
        "{text}"
    );
}

/// A flipped byte anywhere gives the documents or an error, and an error ends the iteration.
#[test]
fn damaged_shards_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.parquet");
    let texts: Vec<String> = (0..40).map(|i| format!("document number {i}")).collect();
    text_shard(&path, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let whole = std::fs::read(&path).unwrap();
    let mut failures = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
        std::fs::write(&path, &bytes).unwrap();
        let mut all = documents(std::slice::from_ref(&path));
        if all.any(|document| document.is_err()) {
            failures += 1;
            assert!(all.next().is_none());
        }
    }
    assert!(failures > 0);
}

#[test]
fn an_inspection_counts_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let paths = story_shards(dir.path());
    assert_eq!(resolve(dir.path().to_str().unwrap()).unwrap(), paths);
    let seen = std::cell::Cell::new(0);
    let tokenizer = tokenizer();
    let found = inspect(&paths, Some(&tokenizer), &|p| {
        assert_eq!(p.total, 300);
        seen.set(p.done);
    })
    .unwrap();
    assert_eq!((found.documents, seen.get()), (300, 300));
    let texts: Vec<String> = documents(&paths).map(|d| d.unwrap().text).collect();
    assert_eq!(
        found.bytes,
        texts.iter().map(|t| t.len() as u64).sum::<u64>()
    );
    let ids = tokenizer.encode_batch(&texts).unwrap();
    assert_eq!(
        found.tokens,
        Some(ids.iter().map(|ids| ids.len() as u64).sum())
    );
    assert_eq!(found.shards.iter().map(|s| s.row_groups).sum::<usize>(), 8);
    assert_eq!(inspect(&paths, None, &|_| ()).unwrap().tokens, None);
}
