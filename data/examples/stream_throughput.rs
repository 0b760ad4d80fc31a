//! Shards to packed batches, as a training run reads them: tokens a second, and peak memory.
//!
//! `cargo run --release -p retort-data --example stream_throughput -- TOKENIZER SOURCE [ROWS [THREADS]]`
//!
//! Reads batches of 8 rows of 2,048 inputs from the start of the first epoch until its end or ROWS
//! rows, with no trainer to wait for. `experiments/checks/data_throughput.py` runs it beside
//! Hugging Face `datasets` and `tokenizers`.

use std::sync::Arc;
use std::time::Instant;

use retort_data::{Data, DataConfig, Loader, Rank};
use retort_tokenizer::Tokenizer;

const SEQ_LEN: usize = 2048;
const BATCH: usize = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tokenizer, source, rest @ ..] = arguments.as_slice() else {
        return Err("give a tokenizer and a source".into());
    };
    let number = |i: usize| rest.get(i).map(|text| text.parse::<u64>()).transpose();
    let most = number(0)?.unwrap_or(u64::MAX);
    let start = Instant::now();
    let config: DataConfig = serde_json::from_value(serde_json::json!({
        "source": source, "tokenizer": tokenizer, "seq_len": SEQ_LEN, "validation_fraction": 0.0,
        "threads": number(1)?.unwrap_or(0),
    }))?;
    let tokenizer = Arc::new(Tokenizer::from_file(&config.tokenizer, None)?);
    let opened = start.elapsed().as_secs_f64();
    let data = Data::open(&config, &tokenizer, None, None, &|_| ())?;
    let mut loader = Loader::start(data.batches(BATCH, Rank::default(), None)?)?;
    let (start, mut tokens, mut stats) = (Instant::now(), 0, None);
    loop {
        let loaded = loader.next_batch()?;
        if loaded.cursor.epochs()[0] > 0 || loaded.cursor.rows() > most {
            break;
        }
        tokens += loaded.batch.tokens();
        stats = Some(loaded.stats);
    }
    let seconds = start.elapsed().as_secs_f64();
    let figures = serde_json::json!({
        "tokens": tokens, "tokens_per_second": tokens as f64 / seconds, "seconds": seconds,
        "tokenizer_seconds": opened, "peak_rss_bytes": retort_files::memory::peak_resident_bytes(),
        "counts": stats,
    });
    println!("{figures}");
    Ok(())
}
