//! A report on one or more runs: a page that stands alone, the plots as SVG files, the figures as
//! CSV.

mod csv;
mod html;
mod plots;
mod series;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::metrics::read_all;

/// Writes `index.html` (with the plots inside, for light and dark), `loss.svg`,
/// `learning-rate.svg`, `gradient-norm.svg`, `throughput.svg`, where tasks were asked `tasks.svg`, and `metrics.csv` into `out`, which is made if need be.
/// Returns the path of the page.
///
/// Nothing is written before every run has been read and every plot drawn; each file takes its
/// place whole, the page last.
///
/// # Errors
///
/// [`Error::NoRuns`], any error of reading a run's metrics, [`Error::Plot`] and [`Error::Io`].
pub fn write<P: AsRef<Path>>(runs: &[P], out: &Path) -> Result<PathBuf> {
    let runs = read_all(runs)?;
    let plots = plots::draw(&runs)?;
    let page = html::page(&runs, &plots);
    let table = csv::table(&runs);

    std::fs::create_dir_all(out).map_err(|e| Error::io(out, "make the directory", e))?;
    for plot in &plots {
        write_whole(&out.join(plot.file), plot.standalone().as_bytes())?;
    }
    write_whole(&out.join("metrics.csv"), table.as_bytes())?;
    let index = out.join("index.html");
    write_whole(&index, page.as_bytes())?;
    Ok(index)
}

/// Writes beside `path`, syncs, and renames into place.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.tmp", std::process::id()));
    let write = || {
        let mut file = std::fs::File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    };
    write().map_err(|e| {
        // The error to report is the one above; a file that was never made cannot be removed.
        let _ = std::fs::remove_file(&aside);
        Error::io(path, "write it", e)
    })
}
