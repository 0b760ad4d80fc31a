//! A report on runs, and on models that were measured: a page that stands alone, the plots as SVG
//! files, the figures as CSV.

mod csv;
mod html;
mod pareto;
mod plots;
mod series;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::measured;
use crate::metrics::read_all;

/// Writes `index.html` (with the plots inside, for light and dark) into `out`, which is made if need
/// be, and beside it the plots as SVG and the figures as CSV: of run directories `loss.svg`,
/// `learning-rate.svg`, `gradient-norm.svg`, `throughput.svg`, where tasks were asked `tasks.svg`,
/// and `metrics.csv`; of `figures`, files that `retort eval --json` and `retort-edge bench --json`
/// wrote, `accuracy-size.svg`, `accuracy-time.svg` and `models.csv`. Returns the path of the page.
///
/// Nothing is written before everything has been read and every plot drawn; each file takes its
/// place whole, the page last.
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
    let (runs, models) = (read_all(runs)?, measured::read(figures)?);
    let of_runs = match runs.is_empty() {
        true => Vec::new(),
        false => plots::draw(&runs)?,
    };
    let of_models = pareto::draw(&models)?;
    let page = html::page(&runs, &of_runs, &models, &of_models);

    std::fs::create_dir_all(out).map_err(|e| Error::io(out, "make the directory", e))?;
    for plot in of_runs.iter().chain(&of_models) {
        write_file(&out.join(plot.file), plot.standalone().as_bytes())?;
    }
    if !runs.is_empty() {
        write_file(&out.join("metrics.csv"), csv::table(&runs).as_bytes())?;
    }
    if !models.is_empty() {
        write_file(&out.join("models.csv"), csv::models(&models).as_bytes())?;
    }
    let index = out.join("index.html");
    write_file(&index, page.as_bytes())?;
    Ok(index)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    retort_files::write(path, bytes).map_err(|e| Error::io(path, "write it", e))
}
