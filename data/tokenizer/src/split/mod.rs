//! How text is cut into words before byte pairs are merged.
//!
//! [`SplitRule`] names the published rules; `scan` cuts text by them, with the character classes of
//! `classes`.

pub(crate) mod classes;
mod rule;
mod scan;

pub use rule::SplitRule;
