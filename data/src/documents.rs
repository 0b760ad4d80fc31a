//! The documents of a source in its own order.

use std::sync::Arc;

use crate::config::OnDamage;
use crate::epoch_order::{Position, ShardWalker};
use crate::error::Result;
use crate::source::Shards;
use crate::stats::Stats;

/// The text of every document of `shards`, in their own order; rows whose text is null are passed
/// over. The first error ends it.
pub fn documents(shards: &Arc<Shards>) -> impl Iterator<Item = Result<String>> + Send + use<> {
    documents_with_progress(shards).map(|document| document.map(|(text, _)| text))
}

/// [`documents`], with the share of the source that lies before each.
pub(crate) fn documents_with_progress(
    shards: &Arc<Shards>,
) -> impl Iterator<Item = Result<(String, f64)>> + Send + use<> {
    let mut walker = ShardWalker::new(shards.clone(), None, OnDamage::Stop, Position::default());
    let mut stats = Stats::default();
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let next = walker.next(&mut stats).transpose();
        ended = !matches!(next, Some(Ok(_)));
        Some(next?.map(|(_, text)| (text, walker.fraction())))
    })
}
