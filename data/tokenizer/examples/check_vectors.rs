//! Ids against llama.cpp's test vectors.
//!
//! `cargo run --release -p retort-tokenizer --example check_vectors -- TOKENIZER VECTORS.inp VECTORS.out`
//!
//! TOKENIZER is anything that `retort_tokenizer::convert` reads. The `.inp` file holds the texts, with
//! `__ggml_vocab_test__` on a line between two; the `.out` file a line of ids for each.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tokenizer, texts, ids] = arguments.as_slice() else {
        return Err("give a tokenizer, a file of texts (.inp) and a file of ids (.out)".into());
    };
    let tokenizer = retort_tokenizer::convert(tokenizer)?;
    if let Err(reason) = tokenizer.has_fast_encoder() {
        println!("no fast encoder: {reason}");
    }
    let (texts, ids) = (
        std::fs::read_to_string(texts)?,
        std::fs::read_to_string(ids)?,
    );
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let expected = ids
        .split('\n')
        .map(|line| line.split_whitespace().map(str::parse).collect())
        .collect::<Result<Vec<Vec<u32>>, _>>()?;
    let cases = expected.len();
    if texts.len() < cases {
        return Err(format!("{} texts for {cases} lines of ids", texts.len()).into());
    }
    let mut right = 0;
    for (text, expected) in texts.into_iter().zip(expected) {
        let found = tokenizer.encode(text)?;
        let mut reference = Vec::new();
        tokenizer.encode_by_reference(text, &mut reference)?;
        if found == expected && reference == expected {
            right += 1;
        } else {
            println!(
                "{text:?}\n  found     {found:?}\n  reference {reference:?}\n  expected  {expected:?}"
            );
        }
    }
    println!("{right} of {cases}");
    if right == cases {
        Ok(())
    } else {
        Err("the ids differ".into())
    }
}
