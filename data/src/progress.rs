//! How far a pass over text has come.

/// How far a pass has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DocumentProgress {
    /// What is being done, as in "tokenizing".
    pub what: &'static str,
    /// Done of all, from 0 to 1, by shards and row groups.
    pub fraction: f64,
    /// Documents read.
    pub documents: u64,
}
