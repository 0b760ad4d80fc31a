//! A report on training runs and on models' results: one HTML page, the plots as SVG, the numbers as CSV.

mod csv;
mod html;
mod pareto;
mod plot;
mod run_plots;
mod series;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::results;
use crate::run_metrics;

/// Writes a report into the directory `out`, which is made if it does not exist; returns the path of
/// its `index.html`, which has the plots inside, for light and dark.
///
/// | input | files beside the page |
/// | --- | --- |
/// | `runs`, run directories | `loss.svg`, `learning-rate.svg`, `gradient-norm.svg`, `throughput.svg`, `tasks.svg` (with tasks), `metrics.csv` |
/// | `figures`, JSON of `retort eval` and `retort-edge bench` | `accuracy-size.svg`, `accuracy-time.svg`, `models.csv` |
///
/// Everything is read and drawn before the first file is written. Each file is written whole, the
/// page last.
///
/// # Errors
///
/// [`Error::NoRuns`] for neither runs nor figures, any error of reading them, [`Error::Plot`] and
/// [`Error::Io`].
pub fn write<P: AsRef<Path>, F: AsRef<Path>>(
    runs: &[P],
    figures: &[F],
    out: &Path,
) -> Result<PathBuf> {
    if runs.is_empty() && figures.is_empty() {
        return Err(Error::NoRuns);
    }
    let (runs, models) = (run_metrics::read_all(runs)?, results::read(figures)?);
    let run_plots = run_plots::draw(&runs)?;
    let model_plots = pareto::draw(&models)?;
    let page = html::page(&runs, &run_plots, &models, &model_plots)?;

    std::fs::create_dir_all(out).map_err(Error::io(out, "make the directory"))?;
    for plot in run_plots.iter().chain(&model_plots) {
        write_file(&out.join(plot.file), plot.standalone().as_bytes())?;
    }
    if !runs.is_empty() {
        write_file(&out.join("metrics.csv"), &csv::runs_table(&runs)?)?;
    }
    if !models.is_empty() {
        write_file(&out.join("models.csv"), &csv::models_table(&models)?)?;
    }
    let index = out.join("index.html");
    write_file(&index, page.as_bytes())?;
    Ok(index)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    retort_files::write(path, bytes).map_err(Error::io(path, "write it"))
}
