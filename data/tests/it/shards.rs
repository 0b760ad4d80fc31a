//! Shards as they come: every layout of C4's columns, and files that are not what they should be.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::support::{
    compressed_text_shard, config, json_shard, open, parquet, shards, story_shards, text_shard,
    tokenizer,
};
use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, LargeStringArray, NullArray, StringArray, StringViewArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use parquet::basic::Compression;
use retort_data::{Error, Rank, documents, inspect, pack};
use serde_json::json;

fn texts(path: &Path) -> Result<Vec<String>, Error> {
    documents(&shards(path)?).collect()
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
    let timestamps: [Option<ArrayRef>; 9] = [
        Some(Arc::new(TimestampSecondArray::from(stamps.clone()))),
        Some(Arc::new(TimestampMillisecondArray::from(stamps.clone()))),
        Some(Arc::new(TimestampMicrosecondArray::from(stamps.clone()))),
        Some(Arc::new(zoned)),
        Some(Arc::new(TimestampNanosecondArray::from(stamps.clone()))),
        Some(Arc::new(StringArray::from(vec![Some(iso); 5]))),
        Some(Arc::new(NullArray::new(5))),
        Some(Arc::new(Int64Array::from(stamps))),
        None,
    ];
    for text in &text {
        for timestamp in &timestamps {
            let path = dir.path().join("shard.parquet");
            let url: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; 5]));
            let mut columns = vec![("url", url), ("text", text.clone())];
            columns.extend(timestamp.clone().map(|column| ("timestamp", column)));
            parquet(&path, columns, 2);
            assert_eq!(texts(&path).unwrap(), ["one", "", "four ünïcødé", "five"]);
            let found = inspect(&shards(&path).unwrap(), None, u64::MAX, &|_| ()).unwrap();
            let info = &found.shards[0];
            assert_eq!((info.rows, info.row_groups), (Some(5), 3));
            let kinds = info.columns.iter().filter(|c| c.name == "timestamp");
            let kinds: Vec<_> = kinds.map(|c| c.kind.clone()).collect();
            let kind = timestamp.as_ref().map(|t| t.data_type().to_string());
            assert_eq!(kinds, Vec::from_iter(kind));
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
    let whole = std::fs::read(&story_shards(dir.path())[0]).unwrap();
    std::fs::write(file("cut.parquet"), &whole[..whole.len() / 2]).unwrap();
    let (error, text) = message(&file("cut.parquet"));
    assert!(
        matches!(error, Error::Parquet { .. }) && text.contains("truncated"),
        "{text}"
    );
}

#[test]
fn json_lines_are_read_in_gzip_and_plain() {
    let dir = tempfile::tempdir().unwrap();
    let expected = ["one", "", "four ünïcødé \n and on"];
    json_shard(
        &dir.path().join("c4-train.00000-of-01024.json.gz"),
        &expected,
    );
    let lines = r#"{"text": "plain", "other": {"nested": [1]}}

{"url": null, "text": null}
{"text":"last, without an end of line"}"#;
    std::fs::write(dir.path().join("d.jsonl"), lines).unwrap();
    let all = [&expected[..], &["plain", "last, without an end of line"]].concat();
    assert_eq!(texts(dir.path()).unwrap(), all);

    let bad = dir.path().join("bad.jsonl");
    std::fs::write(&bad, "{\"text\": \"a\"}\n{\"text\": 5}\n").unwrap();
    let error = texts(&bad).unwrap_err().to_string();
    assert!(
        error.contains("bad.jsonl: line 2") && error.contains("on_damage"),
        "{error}"
    );
}

/// As `datasets` and pyarrow read them.
#[test]
fn json_lines_with_a_byte_order_mark_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mark = "\u{feff}";
    // The second mark is that of a file that was appended to the first.
    let lines = format!("{mark}{{\"text\": \"one\"}}\n{mark}{{\"text\": \"{mark}two\"}}\n{mark}\n");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("a.jsonl"), &lines).unwrap();
    std::fs::write(path("b.ndjson"), &lines).unwrap();
    for name in ["c.json.gz", "d.ndjson.gz"] {
        let file = std::fs::File::create(path(name)).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gzip.write_all(lines.as_bytes()).unwrap();
        gzip.finish().unwrap();
    }
    assert_eq!(texts(dir.path()).unwrap(), ["one", "\u{feff}two"].repeat(4));
}

/// Python's `json.dumps` writes them.
#[test]
fn json_lines_with_nan_and_infinity_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nan.jsonl");
    let lines = r#"{"score": NaN, "text": "NaN \" Infinity", "more": [-Infinity, {"a": Infinity}]}
{"text": NaN}
{"text": "plain"}
"#;
    std::fs::write(&path, lines).unwrap();
    assert_eq!(texts(&path).unwrap(), ["NaN \" Infinity", "plain"]);
    for bad in [
        r#"{"text": "a", "score": NaNa}"#,
        r#"{"text": "a", "score": +Infinity}"#,
        r#"{"text": "NaN}"#,
        r#"{"score": NaN, "text": "\"#,
        r#"{"score": NaN, "text": 1}"#,
    ] {
        std::fs::write(&path, bad).unwrap();
        let error = texts(&path).unwrap_err().to_string();
        assert!(error.contains("nan.jsonl: line 1"), "{error}");
    }
}

#[test]
fn parquet_of_every_codec_is_read_or_the_codec_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shard.parquet");
    let expected: Vec<String> = (0..300).map(|i| format!("document number {i}")).collect();
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(Default::default()),
    ] {
        compressed_text_shard(&path, &expected, codec);
        assert_eq!(texts(&path).unwrap(), expected, "{codec}");
    }
    // The codec of the column `text` in the footer: its path, then field 4, as zigzag.
    let unread = |codec: u8| {
        compressed_text_shard(&path, &expected, Compression::UNCOMPRESSED);
        let mut bytes = std::fs::read(&path).unwrap();
        let field = b"\x18\x04text\x15\x00";
        let found = bytes.windows(field.len()).rposition(|w| w == field);
        bytes[found.unwrap() + field.len() - 1] = 2 * codec;
        std::fs::write(&path, bytes).unwrap();
    };
    let tokenizer = Arc::new(tokenizer());
    for (codec, name) in [(3, "lzo"), (4, "brotli")] {
        unread(codec);
        let message = texts(&path).unwrap_err().to_string();
        let says = [name, "shard.parquet", "zstd", "write_table"];
        assert!(says.iter().all(|part| message.contains(part)), "{message}");
        assert!(!message.contains("damaged"), "{message}");
        // It is no damage that could be skipped.
        let skip = json!({"source": path, "on_damage": "skip"});
        let error = open(&config(skip), &tokenizer).map(drop).unwrap_err();
        assert!(matches!(error, Error::Codec { .. }), "{error}");
    }
}

#[test]
fn source_that_is_damaged_all_over_is_an_error_where_damage_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("source"), dir.path().join("out"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("a.parquet"), "no parquet").unwrap();
    std::fs::write(source.join("b.jsonl"), "no JSON\nnor this\n").unwrap();
    let tokenizer = Arc::new(tokenizer());
    for fraction in [0.0, 0.5] {
        let fields = json!({
            "source": source, "on_damage": "skip", "validation_fraction": fraction, "seq_len": 16,
        });
        let error = pack(&config(fields), &tokenizer, &out, 64, &|_| ()).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::NothingRead { .. }), "{message}");
        assert!(message.contains("passed over"), "{message}");
        std::fs::remove_dir_all(&out).unwrap();
    }
    let text = "a document that can be read, ".repeat(20);
    json_shard(&source.join("c.json.gz"), &[&text]);
    let fields = json!({
        "source": source, "on_damage": "skip", "validation_fraction": 0.0, "seq_len": 16,
    });
    let report = pack(&config(fields), &tokenizer, &out, 64, &|_| ()).unwrap();
    assert!(
        report.rows > 0 && report.stats.damaged == 3,
        "{}",
        report.stats
    );
}

/// The recipe says whether damage ends the run or is skipped and counted; what is skipped does not
/// depend on where reading began.
#[test]
fn a_damaged_row_group_is_named_or_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.parquet");
    let texts: Vec<String> = (0..600)
        .map(|i| format!("document number {i:03} of six hundred"))
        .collect();
    text_shard(&path, &texts, 200);
    let mut bytes = std::fs::read(&path).unwrap();
    // In the second of three row groups.
    let at = bytes
        .windows(19)
        .position(|w| w == b"document number 300")
        .unwrap();
    bytes[at - 40..at + 400].fill(0xff);
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(
        dir.path().join("e.jsonl"),
        "{\"text\": \"a line of JSON\"}\nnot\n",
    )
    .unwrap();
    let tokenizer = Arc::new(tokenizer());
    let mut fields = json!({"source": dir.path(), "seq_len": 16, "validation_fraction": 0.0, "shuffle_window": 7});
    let mut batches = open(&config(fields.clone()), &tokenizer)
        .unwrap()
        .batches(1, Rank::default(), None)
        .unwrap();
    let error = loop {
        if let Err(error) = batches.next_batch() {
            break error.to_string();
        }
    };
    assert!(
        error.contains("damaged.parquet: row group 1, column `text`")
            || error.contains("e.jsonl: line 2"),
        "{error}"
    );
    fields["on_damage"] = json!("skip");
    let data = open(&config(fields), &tokenizer).unwrap();
    let mut whole = data.batches(1, Rank::default(), None).unwrap();
    while whole.cursor().epochs()[0] == 0 {
        let mut again = data
            .batches(1, Rank::default(), Some(&whole.cursor()))
            .unwrap();
        assert_eq!(whole.next_batch().unwrap(), again.next_batch().unwrap());
    }
    let stats = whole.stats();
    assert_eq!(stats.damaged, 2);
    assert!(stats.documents >= 401 && stats.documents < 601, "{stats}");
}

#[test]
fn an_inspection_stats_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    story_shards(dir.path());
    let source = shards(dir.path()).unwrap();
    let seen = std::cell::Cell::new((0, 0.0));
    let tokenizer = tokenizer();
    let found = inspect(&source, Some(&tokenizer), u64::MAX, &|p| {
        assert!(p.documents > seen.get().0);
        seen.set((p.documents, p.fraction));
    })
    .unwrap();
    assert_eq!((found.documents, seen.get()), (300, (300, 1.0)));
    let texts: Vec<String> = documents(&source).map(Result::unwrap).collect();
    assert_eq!(
        found.bytes,
        texts.iter().map(|t| t.len() as u64).sum::<u64>()
    );
    let ids = texts.iter().map(|text| tokenizer.encode(text).unwrap());
    assert_eq!(found.tokens, Some(ids.map(|ids| ids.len() as u64).sum()));
    assert_eq!(found.shards.iter().map(|s| s.row_groups).sum::<usize>(), 8);
    let some = inspect(&source, None, 40, &|_| ()).unwrap();
    assert_eq!(
        (some.tokens, some.documents, some.shards.len()),
        (None, 40, 1)
    );
}
