//! The cores that threads run on by default: one per fast physical core.
//!
//! In: Linux's description of the processor under `/sys/devices/system/cpu`. A second thread on a core shares its
//! arithmetic units and its path to memory, of which decoding already uses all. Of unequal cores (Arm's big.LITTLE,
//! Intel's P and E), the fast ones are those of at least half the greatest capacity; the others would be waited for.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

/// The first logical processor of every fast physical core that this process may use, in the system's order; where
/// the system does not tell, as many as there are.
pub fn fast_cores() -> Vec<usize> {
    let usable = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut cores = read(Path::new("/sys/devices/system/cpu"));
    if cores.is_empty() {
        cores = (0..usable).collect();
    }
    cores.truncate(usable);
    cores
}

/// The fast cores under Linux's CPU directory; none if it is not there.
fn read(directory: &Path) -> Vec<usize> {
    // Set of siblings to the first of them and its capacity.
    let mut cores: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str());
        let index = name.and_then(|name| name.strip_prefix("cpu")?.parse::<usize>().ok());
        let text = |part: &str| std::fs::read_to_string(path.join(part)).ok();
        let siblings = text("topology/thread_siblings_list");
        let (Some(index), Some(siblings)) = (index, siblings) else {
            continue;
        };
        let capacity = text("cpu_capacity").or_else(|| text("cpufreq/cpuinfo_max_freq"));
        let capacity = capacity
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let core = cores.entry(siblings).or_insert((index, capacity));
        core.0 = core.0.min(index);
    }
    let greatest = cores.values().map(|core| core.1).max().unwrap_or(0);
    let mut fast: Vec<_> = cores
        .into_values()
        .filter(|core| core.1 >= greatest / 2)
        .map(|core| core.0)
        .collect();
    fast.sort_unstable();
    fast
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(directory: &Path, index: usize, siblings: &str, capacity: Option<&str>) {
        let cpu = directory.join(format!("cpu{index}"));
        std::fs::create_dir_all(cpu.join("topology")).unwrap();
        std::fs::write(cpu.join("topology/thread_siblings_list"), siblings).unwrap();
        if let Some(capacity) = capacity {
            std::fs::write(cpu.join("cpu_capacity"), capacity).unwrap();
        }
    }

    #[test]
    fn siblings_count_as_one_core() {
        let directory = tempfile::tempdir().unwrap();
        for (index, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            cpu(directory.path(), index, siblings, None);
        }
        assert_eq!(read(directory.path()), [0, 1]);
        assert!(read(&directory.path().join("none")).is_empty());
    }

    #[test]
    fn little_cores_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        for index in 0..8usize {
            let capacity = ["446\n", "871\n", "1024\n"][index.saturating_sub(2) / 3 + index / 7];
            cpu(directory.path(), index, &index.to_string(), Some(capacity));
        }
        assert_eq!(read(directory.path()), [5, 6, 7]);
        assert!(!fast_cores().is_empty());
    }
}
