//! What this machine can do, measured: how fast memory is read, how many int8 multiply-adds a second the kernels'
//! instructions reach, and the energy that a stretch of work took.
//!
//! Speed is judged as a share of these. Nothing is estimated: what the system does not tell is `None`.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use retort_files::memory::available_bytes;
use retort_kernels::Kernels;
use retort_kernels::pool::Pool;

/// Bytes read to measure bandwidth: far more than any cache holds.
const BYTES: u64 = 256 << 20;
/// The best of so many passes counts: what disturbs a measurement only slows it.
const PASSES: usize = 7;

/// Bytes a second that all threads of `pool` together read from memory; `None` where there is too little of it.
pub fn read_bandwidth(pool: &Pool) -> Option<f64> {
    const PIECE: usize = 1 << 17;
    let bytes = BYTES.min(available_bytes().unwrap_or(u64::MAX) / 4);
    let n = usize::try_from(bytes / 8).ok()? / PIECE * PIECE;
    if n == 0 {
        return None;
    }
    let mut words = vec![0u64; n];
    // written by the threads that will read, which also makes the pages real
    pool.rows(&mut words, PIECE, 1, |piece, words| {
        words.fill(piece as u64)
    });
    let seconds = best(|| {
        pool.run(n / PIECE, |piece| {
            let words = &words[piece * PIECE..(piece + 1) * PIECE];
            let mut lanes = [0u64; 16];
            for words in words.as_chunks::<16>().0 {
                for (lane, word) in lanes.iter_mut().zip(words) {
                    *lane = lane.wrapping_add(*word);
                }
            }
            black_box(lanes);
        });
    });
    Some((n * 8) as f64 / seconds)
}

/// Multiply-adds a second of the instructions that these kernels multiply int8 with, on all threads of `pool`; `None`
/// for the scalar kernels, which have none.
pub fn integer_peak(kernels: &Kernels, pool: &Pool) -> Option<f64> {
    const ROUNDS: usize = 1 << 16;
    let per_round = kernels.peak(1)?;
    let pieces = pool.threads() * 16;
    let seconds = best(|| {
        pool.run(pieces, |_| {
            black_box(kernels.peak(ROUNDS));
        });
    });
    Some((per_round * ROUNDS * pieces) as f64 / seconds)
}

fn best(work: impl Fn()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..PASSES).map(time).fold(f64::INFINITY, f64::min)
}

/// A meter of the machine's energy.
#[derive(Debug)]
pub struct Energy {
    joules: f64,
}

impl Energy {
    /// Starts metering; `None` where neither the processor (Linux's powercap) nor a discharging battery tells.
    pub fn start() -> Option<Self> {
        let joules = read_joules(Path::new("/sys/class"))?;
        Some(Self { joules })
    }

    /// Joules since the start; `None` if the counter began anew or did not move.
    pub fn joules(&self) -> Option<f64> {
        let joules = read_joules(Path::new("/sys/class"))? - self.joules;
        (joules > 0.0).then_some(joules)
    }
}

/// A counter of energy used that only grows, in joules: of all processor packages, else what a discharging battery has
/// lost.
fn read_joules(class: &Path) -> Option<f64> {
    let number =
        |path: &Path| -> Option<f64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let entries = |folder: &str| {
        let entries = std::fs::read_dir(class.join(folder)).into_iter().flatten();
        entries.flatten().map(|entry| entry.path())
    };
    // packages are intel-rapl:0, intel-rapl:1; their parts intel-rapl:0:0 are counted in them
    let packages = entries("powercap").filter(|path| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        name.matches(':').count() == 1
    });
    let packages: Vec<f64> = packages
        .filter_map(|path| number(&path.join("energy_uj")))
        .collect();
    if !packages.is_empty() {
        return Some(packages.iter().sum::<f64>() * 1e-6);
    }
    let batteries = entries("power_supply").filter(|path| {
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        status.trim() == "Discharging"
    });
    let left: Vec<f64> = batteries
        .filter_map(|path| number(&path.join("energy_now")))
        .collect();
    // microwatt-hours left, of which 3.6 mJ each
    (!left.is_empty()).then(|| -left.iter().sum::<f64>() * 3.6e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_measured() {
        let pool = Pool::new(2, &[]).unwrap();
        assert!(read_bandwidth(&pool).unwrap() > 1e6);
        let peaks = Kernels::available()
            .into_iter()
            .map(|k| (k.name, integer_peak(k, &pool)));
        for (name, peak) in peaks {
            assert_eq!(
                peak.is_some_and(|peak| peak > 1e6),
                name != "scalar",
                "{name}"
            );
        }
    }

    #[test]
    fn energy_is_that_of_packages_else_of_a_discharging_battery() {
        let class = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = class.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(read_joules(class.path()), None);
        write("power_supply/BAT0/energy_now", "1000000\n");
        write("power_supply/BAT0/status", "Charging\n");
        assert_eq!(read_joules(class.path()), None);
        write("power_supply/BAT0/status", "Discharging\n");
        assert_eq!(read_joules(class.path()), Some(-3600.0));
        write("powercap/intel-rapl:0/energy_uj", "2000000\n");
        write("powercap/intel-rapl:1/energy_uj", "3000000\n");
        write("powercap/intel-rapl:0:0/energy_uj", "900000\n");
        assert_eq!(read_joules(class.path()), Some(5.0));
    }
}
