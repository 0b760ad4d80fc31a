//! Sizes of memory in bytes, as Linux's `/proc` has them (proc(5)); `None` where the system does
//! not tell. The `procfs` crate would do it too, with more lines of dependencies than these.

/// Memory of the machine that can be had without swapping.
pub fn available_bytes() -> Option<u64> {
    read("/proc/meminfo", "MemAvailable:")
}

/// Memory that this process holds.
pub fn resident_bytes() -> Option<u64> {
    read("/proc/self/status", "VmRSS:")
}

/// The most memory that this process has held.
pub fn peak_resident_bytes() -> Option<u64> {
    read("/proc/self/status", "VmHWM:")
}

/// The most addresses that this process has held, mapped files among them.
pub fn peak_virtual_bytes() -> Option<u64> {
    read("/proc/self/status", "VmPeak:")
}

fn read(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_peak_is_at_least_what_is_resident() {
        let resident = super::resident_bytes().unwrap();
        assert!(super::peak_resident_bytes().unwrap() >= resident && resident > 0);
        assert!(super::available_bytes().unwrap() > 0);
    }
}
