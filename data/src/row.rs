//! A row: `seq_len + 1` ids, of which the first `seq_len` are inputs and the last as many targets,
//! with the places where documents begin in it.

/// Ids of one row of a batch.
///
/// ```text
/// ids      d d d E d d d d E  ·  ·      d: document, E: end of text, ·: padding
/// starts   0       4
/// inputs   ids[..L]        targets  ids[1..], −1 for padding
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The ids that are text, at most `seq_len + 1`; the rest of the row is padding.
    pub ids: Vec<u32>,
    /// Where documents begin in `ids`, ascending; the first is 0, even where the row goes on with a
    /// document from before.
    pub starts: Vec<u32>,
}
