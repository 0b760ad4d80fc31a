//! Stories as parquet shards in C4's layout: `text` (string), `timestamp` (timestamp[s]), `url`
//! (string); zstd, four row groups a shard.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampSecondArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use retort_files::AtomicFile;

use super::generate::Story;
use crate::error::{Error, Result};

/// Row groups in a shard.
const ROW_GROUPS: usize = 4;
/// 2024-01-01T00:00:00Z, the timestamp of the first story; each next one is a second later.
const FIRST_TIMESTAMP: i64 = 1_704_067_200;

/// Writes `stories` into `shards` files `stories-train-00000-of-0000N.parquet` in `dir`, which is
/// made if need be, and returns their paths in order.
///
/// # Errors
///
/// [`Error::Config`] if there are fewer stories than shards or no shard, [`Error::Io`] if a file
/// cannot be written.
pub fn write_parquet(
    dir: impl AsRef<Path>,
    stories: &[Story],
    shards: usize,
) -> Result<Vec<PathBuf>> {
    let dir = dir.as_ref();
    if shards == 0 || stories.len() < shards {
        return Err(Error::config(
            "stories",
            format!("{} stories cannot fill {shards} shards", stories.len()),
        ));
    }
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let mut paths = Vec::with_capacity(shards);
    for shard in 0..shards {
        let from = shard * stories.len() / shards;
        let to = (shard + 1) * stories.len() / shards;
        let path = dir.join(format!("stories-train-{shard:05}-of-{shards:05}.parquet"));
        write_shard(&path, &stories[from..to], from).map_err(Error::io(&path))?;
        paths.push(path);
    }
    Ok(paths)
}

fn write_shard(path: &Path, stories: &[Story], first: usize) -> std::io::Result<()> {
    let text = StringArray::from_iter_values(stories.iter().map(|s| &s.text));
    let numbers = first..first + stories.len();
    let timestamp = TimestampSecondArray::from_iter_values(
        numbers
            .clone()
            .map(|i| FIRST_TIMESTAMP.saturating_add(i as i64)),
    );
    let url =
        StringArray::from_iter_values(numbers.map(|i| format!("https://stories.invalid/{i}")));
    let columns: [(&str, ArrayRef); 3] = [
        ("text", Arc::new(text)),
        ("timestamp", Arc::new(timestamp)),
        ("url", Arc::new(url)),
    ];
    let batch = RecordBatch::try_from_iter(columns).map_err(std::io::Error::other)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(stories.len().div_ceil(ROW_GROUPS)))
        .build();
    let mut file = AtomicFile::create(path)?;
    let mut writer = ArrowWriter::try_new(file.as_file(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    file.commit()
}
