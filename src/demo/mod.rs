//! `retort demo`: the whole pipeline on generated text, nothing downloaded.
//!
//! Stories → tokenizer → teacher on much text → three students of one shape on a little text, in the
//! same time (from scratch, cut out of the teacher, cut out and taught by it) → int4 → a table of
//! losses on stories that no model has seen, and three completions.

mod corpus;
mod runs;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use retort_engine::Model;
use retort_engine::sampling::Sampling;
use retort_format::GgmlType;

use crate::progress;

/// Run the whole pipeline on generated stories: train, distil, export to int4, answer
#[derive(clap::Args)]
#[command(after_help = "Example:\n  retort demo --out demo-out")]
pub struct Args {
    /// Directory for everything it makes; an earlier demo there is replaced
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    out: PathBuf,
    /// Seed of the stories, the first weights and the order of the data
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let (out, seed) = (&args.out, args.seed);
    clear(out)?;
    eprintln!("1/6  generated stories and a tokenizer");
    let held_out = corpus::make(out, seed)?;
    eprintln!("2/6  the teacher, on 20,000 stories");
    let teacher = runs::teacher(out, seed)?;
    eprintln!("3/6  a student, cut out of the teacher");
    let students = runs::Students::cut(out, seed, &teacher)?;
    eprintln!("4/6  three students on 100 stories: from scratch, cut out, cut out and taught");
    let [scratch, untaught, student] = students.train()?;
    eprintln!("5/6  int4");
    let mut rows = Vec::new();
    for run in [&teacher, &scratch, &untaught, &student] {
        rows.push(edge_row(out, run, &held_out, GgmlType::F32)?);
    }
    rows.push(edge_row(out, &student, &held_out, GgmlType::Q4_0)?);
    eprintln!("6/6  the report");
    let directories = [&teacher, &scratch, &untaught, &student].map(|r| r.directory.clone());
    retort_eval::report::write::<_, PathBuf>(&directories, &[], &out.join("report"))?;

    let results = serde_json::json!({ "entropy": held_out.entropy, "models": rows });
    let path = out.join("results.json");
    retort_files::write(&path, serde_json::to_string_pretty(&results)?.as_bytes())
        .with_context(|| path.display().to_string())?;
    println!("{}", table::render(&rows, held_out.entropy));
    println!(
        "{}",
        table::conclusion(rows[1].loss, rows[2].loss, rows[3].loss)
    );
    let int4 = file(out, student.name, GgmlType::Q4_0);
    for prompt in &held_out.prompts {
        println!("{}", complete(&int4, prompt)?);
    }
    // As it was called here, so that the line works as it is printed: `target/release/retort` under `cargo run`.
    let program = std::env::args().next().unwrap_or("retort".to_owned());
    println!(
        "\n{:.0} s in all. Talk to it:\n  {program} run {} -p \"{}\" -n 60",
        start.elapsed().as_secs_f64(),
        int4.display(),
        held_out.prompts[0],
    );
    println!("Loss curves: {}", out.join("report/index.html").display());
    Ok(())
}

/// Marks a directory as a demo's own, which a new demo may replace.
const MARK: &str = ".retort-demo";

/// Makes `out` a directory with nothing but the mark in it. A directory without the mark that is not
/// empty is an error: it belongs to the user.
fn clear(out: &Path) -> anyhow::Result<()> {
    let at = || out.display().to_string();
    if out.join(MARK).exists() {
        fs::remove_dir_all(out).with_context(at)?;
    } else if out.exists() && fs::read_dir(out).with_context(at)?.next().is_some() {
        bail!(
            "{}: is not empty and not an earlier demo's: give another --out directory",
            out.display()
        );
    }
    fs::create_dir_all(out).with_context(at)?;
    fs::write(out.join(MARK), "").with_context(at)
}

fn file(out: &Path, name: &str, quant: GgmlType) -> PathBuf {
    out.join(format!("{name}-{}.gguf", quant.name().to_lowercase()))
}

/// Exports a run's best checkpoint, and measures the file in the edge engine.
fn edge_row(
    out: &Path,
    run: &runs::Run,
    held_out: &corpus::HeldOut,
    quant: GgmlType,
) -> anyhow::Result<table::ModelRow> {
    let path = file(out, run.name, quant);
    let exported = retort_convert::export::export(&run.checkpoint, &path, quant, |_| {})?;
    let model = Model::open(&path)?;
    let bar = progress::bar("evaluating", held_out.rows.len() as u64);
    let rows = held_out.rows.iter().map(|row| {
        bar.inc(1);
        &row[..]
    });
    let loss = retort_eval::held_out_loss(&model.engine, rows)?;
    bar.finish_and_clear();
    let settings = retort_engine::bench::BenchSettings {
        prompt: 64,
        generate: 64,
        reps: 5,
    };
    let speed = retort_engine::bench::bench(&model.engine, &settings, |_, _| {})?;
    Ok(table::ModelRow {
        name: match quant {
            GgmlType::Q4_0 => format!("{}, int4", run.title),
            _ => run.title.to_owned(),
        },
        parameters: exported.parameters,
        steps: run.steps,
        seconds: run.seconds,
        loss,
        tokens_per_second: speed.decode_tokens_per_second,
        bytes: exported.bytes,
    })
}

fn complete(path: &Path, prompt: &str) -> anyhow::Result<String> {
    let model = Model::open(path)?;
    let sampling = Sampling::greedy();
    let mut text = format!("\n{prompt}\u{2502}");
    model.generate(prompt, 60, &sampling, |piece| {
        text.push_str(piece);
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(text)
}
