//! The fast encoder against the `tokenizers` crate, or two tokenizers against each other, on every
//! document of some shards.
//!
//! `cargo run --release -p retort-data --example check_encoder -- TOKENIZER [--against OTHER] SOURCE…`
//!
//! Tokenizers are anything that `retort_tokenizer::convert` reads, sources are parquet files, globs or
//! directories. Each document is also encoded in capitals, reversed, and without its spaces.

use std::error::Error;
use std::sync::Arc;

use retort_data::{Shards, SourceOptions, documents};
use retort_tokenizer::{Tokenizer, convert};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut against = None;
    if let Some(at) = arguments.iter().position(|a| a == "--against") {
        against = arguments.drain(at..(at + 2).min(arguments.len())).nth(1);
    }
    let mut rest = arguments.into_iter();
    let tokenizer = convert(rest.next().ok_or("give a tokenizer and a source")?)?;
    let sources: Vec<String> = rest.collect();
    if sources.is_empty() {
        return Err("give a source: a parquet file, a glob or a directory".into());
    }
    let other = against.map(convert).transpose()?;
    match (tokenizer.has_fast_encoder(), &other) {
        (Err(reason), None) => return Err(format!("no fast encoder: {reason}").into()),
        (fast, _) => println!("fast encoder: {fast:?}"),
    }
    let (mut count, mut bytes, mut tokens, mut different) = (0u64, 0u64, 0u64, 0u64);
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for source in &sources {
        for document in documents(&Arc::new(Shards::resolve(
            source,
            &SourceOptions::default(),
        )?)) {
            let text = document?;
            count += 1;
            bytes += text.len() as u64;
            for (which, variant) in variants(&text).iter().enumerate() {
                found.clear();
                expected.clear();
                tokenizer.encode_into(variant, &mut found)?;
                match &other {
                    Some(other) => other.encode_into(variant, &mut expected)?,
                    None => tokenizer.encode_by_reference(variant, &mut expected)?,
                }
                if which == 0 {
                    tokens += found.len() as u64;
                }
                if found != expected {
                    different += 1;
                    report(&tokenizer, variant, &found, &expected);
                }
            }
        }
    }
    println!(
        "{count} documents, {bytes} bytes, {tokens} tokens; each in 4 forms: {} of {} identical",
        4 * count - different,
        4 * count
    );
    if different == 0 {
        Ok(())
    } else {
        Err("the ids differ".into())
    }
}

fn variants(text: &str) -> [String; 4] {
    [
        text.to_owned(),
        text.to_uppercase(),
        text.chars().rev().collect(),
        text.replace(' ', ""),
    ]
}

fn report(tokenizer: &Tokenizer, text: &str, found: &[u32], expected: &[u32]) {
    let same = found.iter().zip(expected).take_while(|(a, b)| a == b);
    let at = same.count();
    let around = |ids: &[u32]| -> Vec<Option<String>> {
        let ids = &ids[at.saturating_sub(2)..(at + 4).min(ids.len())];
        ids.iter().map(|&id| tokenizer.token(id)).collect()
    };
    println!(
        "{:?}…: token {at}: {:?}, expected {:?}",
        text.chars().take(40).collect::<String>(),
        around(found),
        around(expected)
    );
}
