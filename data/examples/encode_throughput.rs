//! Text to ids on one thread: the encoder in use beside the `tokenizers` crate.
//!
//! `cargo run --release -p retort-data --example encode_throughput -- TOKENIZER SOURCE [MEGABYTES]`
//!
//! The first MEGABYTES (16) of documents are held in memory and encoded by each in turn, five times
//! after one to warm up; the medians count. CPU time is the thread's own, as Linux keeps it, so
//! that other load on the machine changes little.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use retort_data::{Shards, SourceOptions, documents};
use retort_tokenizer::{Tokenizer, convert};

const RUNS: usize = 5;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, source, rest @ ..] = arguments.as_slice() else {
        return Err("give a tokenizer and a source".into());
    };
    let megabytes: f64 = rest.first().map_or(Ok(16.0), |text| text.parse())?;
    let start = Instant::now();
    let tokenizer = convert(path)?;
    println!("opened in {:.3} s", start.elapsed().as_secs_f64());
    if let Err(reason) = tokenizer.has_fast_encoder() {
        println!("no fast encoder: {reason}");
    }
    let mut texts = Vec::new();
    let mut bytes = 0;
    for document in documents(&Arc::new(Shards::resolve(
        source,
        &SourceOptions::default(),
    )?)) {
        let text = document?;
        bytes += text.len();
        texts.push(text);
        if bytes as f64 >= megabytes * 1e6 {
            break;
        }
    }
    let encoders: [(&str, Encoder); 2] = [
        ("in use", Tokenizer::encode_into),
        ("tokenizers", Tokenizer::encode_by_reference),
    ];
    let mut seconds = [Vec::new(), Vec::new()];
    let mut tokens = 0;
    for run in 0..=RUNS {
        for (which, (_, encode)) in encoders.iter().enumerate() {
            let (wall, cpu, count) = pass(&tokenizer, *encode, &texts)?;
            if run == 0 {
                println!(
                    "{} first: {:.2} MB/s",
                    encoders[which].0,
                    bytes as f64 / cpu / 1e6
                );
            } else {
                seconds[which].push((cpu, wall));
            }
            if run > 0 && count != tokens {
                return Err("the number of tokens differs".into());
            }
            tokens = count;
        }
    }
    println!("{} documents, {bytes} bytes, {tokens} tokens", texts.len());
    let medians = seconds.map(|mut runs| {
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        runs[runs.len() / 2]
    });
    for ((name, _), (cpu, wall)) in encoders.iter().zip(medians) {
        println!(
            "{name:<10}  {:8.2} MB/s  {:6.2} M tokens/s  of CPU time ({:.2} MB/s of wall time)",
            bytes as f64 / cpu / 1e6,
            tokens as f64 / cpu / 1e6,
            bytes as f64 / wall / 1e6
        );
    }
    println!("{:.1} times", medians[1].0 / medians[0].0);
    Ok(())
}

type Encoder = fn(&Tokenizer, &str, &mut Vec<u32>) -> retort_tokenizer::Result<()>;

/// Wall seconds, CPU seconds and tokens of encoding every text.
fn pass(tokenizer: &Tokenizer, encode: Encoder, texts: &[String]) -> Outcome<(f64, f64, usize)> {
    let (mut ids, mut count) = (Vec::new(), 0);
    let (start, cpu) = (Instant::now(), cpu_seconds()?);
    for text in texts {
        ids.clear();
        encode(tokenizer, text, &mut ids)?;
        count += ids.len();
    }
    Ok((start.elapsed().as_secs_f64(), cpu_seconds()? - cpu, count))
}

/// Seconds this thread has been on a CPU.
fn cpu_seconds() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().ok_or("empty schedstat")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}
