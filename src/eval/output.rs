//! The files and the table that `retort eval` writes.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use retort_eval::Error;
use retort_eval::tasks::Evaluation;
use retort_files::AtomicFile;

/// The file of `--items`: every line is in it as soon as its item is answered.
pub struct ItemsFile<'p> {
    path: &'p Path,
    file: File,
}

impl<'p> ItemsFile<'p> {
    /// Creates the file.
    pub fn new(path: &'p Path) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("{}: cannot write it", path.display()))?;
        Ok(Self { path, file })
    }

    /// Appends `line`, which ends with a newline.
    pub fn write(&mut self, line: &str) -> Result<(), Error> {
        // One call a line: a run that is killed leaves whole lines.
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|e| Error::Model(format!("{}: cannot write it: {e}", self.path.display())))
    }
}

/// The table of results: a line for each metric, the first with the task's name.
pub fn table(evaluations: &[Evaluation]) -> String {
    let mut text = format!(
        "{:<18} {:>6} {:>5}  {:<16} {:>10} {:>9}\n",
        "task", "n", "shots", "metric", "value", "stderr"
    );
    for evaluation in evaluations {
        if evaluation.figures.is_empty() {
            let (name, n, shots) = (&evaluation.name, evaluation.n, evaluation.shots);
            text += &format!("{name:<18} {n:>6} {shots:>5}  completions, see --items\n");
        }
        for (i, figure) in evaluation.figures.iter().enumerate() {
            let (name, n, shots) = if i == 0 {
                let (n, shots) = (evaluation.n.to_string(), evaluation.shots.to_string());
                (evaluation.name.as_str(), n, shots)
            } else {
                ("", String::new(), String::new())
            };
            let stderr = figure.stderr.map_or("-".into(), |e| format!("{e:.4}"));
            let metric = figure.metric.name();
            text += &format!(
                "{name:<18} {n:>6} {shots:>5}  {metric:<16} {:>10.4} {stderr:>9}\n",
                figure.value
            );
        }
    }
    text
}

/// Fails now, before hours are spent, if no file can be written at `path`.
pub fn check_writable(path: &Path) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return Ok(());
    }
    AtomicFile::create(path)
        .map(drop)
        .with_context(|| format!("{}: cannot write it", path.display()))
}

/// Writes `json` to `path` and prints `table`; `-` and no path choose between the two on standard output.
pub fn print(path: Option<&Path>, json: &str, table: &str) -> anyhow::Result<()> {
    match path {
        Some(path) if path == Path::new("-") => print!("{json}"),
        Some(path) => {
            retort_files::write(path, json.as_bytes())
                .with_context(|| format!("{}: cannot write it", path.display()))?;
            print!("{table}");
        }
        None => print!("{table}"),
    }
    Ok(())
}
