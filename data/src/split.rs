//! Which side of the train/validation split a document is on: decided by its text alone, so that
//! shards may be added, reordered or duplicated and no validation document ever turns up in
//! training.

use xxhash_rust::xxh3::xxh3_64;

/// Whether the document `text` belongs to validation, when `fraction` of all documents do.
///
/// The hash is XXH3-64 of the UTF-8 bytes; its top share of `fraction` is validation, so a larger
/// fraction only adds documents to it.
pub fn is_validation(text: &str, fraction: f64) -> bool {
    /// 2⁶⁴: the hash is uniform on `0..2⁶⁴`.
    const RANGE: f64 = 18_446_744_073_709_551_616.0;
    (xxh3_64(text.as_bytes()) as f64) < fraction * RANGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_the_fraction_and_nested() {
        let texts: Vec<String> = (0..20_000).map(|i| format!("document {i}")).collect();
        let count = |fraction| texts.iter().filter(|t| is_validation(t, fraction)).count();
        assert_eq!(count(0.0), 0);
        let tenth = count(0.1);
        assert!((1_800..2_200).contains(&tenth), "{tenth}");
        assert!(
            texts
                .iter()
                .all(|t| !is_validation(t, 0.01) || is_validation(t, 0.1))
        );
    }

    #[test]
    fn the_split_never_changes() {
        // A changed hash would leak validation text into resumed runs.
        let sides: Vec<bool> = (0..8)
            .map(|i| is_validation(&format!("{i}"), 0.5))
            .collect();
        assert_eq!(sides, [true, true, false, true, false, false, false, true]);
    }
}
