//! Many ranks, one model: what of a step each does, and how they stay one.
//!
//! In: a [`World`](crate::World) and a recipe. Each rank computes the gradient of its share of a step's rows; then
//! either every step is that of all rows ([`Synchronous`]), or the ranks go apart and meet now and then
//! ([`diloco`]). Without other ranks the loop does not come here.

mod diloco;
mod int8;
mod numbers;
mod same;
mod shards;
mod start;
mod synchronous;

pub use diloco::DilocoConfig;
pub use numbers::checksum;
pub use same::{Claims, share};
pub use start::Ranks;
pub use synchronous::Synchronous;
