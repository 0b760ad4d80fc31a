//! Training of one model by several processes ("ranks"): the messages, and what is made of them.
//!
//! In: any Burn module and its gradients. Out: the same weights on every rank.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`process_group`] | who the ranks are, and collective operations over MPI or threads |
//! | [`zero1`] | every step is that of all ranks; each rank updates its own parameters (ZeRO, stage 1) |
//! | [`diloco`] | ranks train by themselves and average every few steps (DiLoCo) |
//! | [`optimizer_shards`] | the optimizer's state, cut by owner and merged |
//! | [`consistency`] | whether all ranks have the same recipe, program, data and weights |
//!
//! ```
//! use retort_comm::{ProcessGroup, threads};
//!
//! // Three ranks in one process; `ProcessGroup::init()` joins those that mpirun started.
//! let sums = threads::run(3, |group| group.all_reduce_sum(group.rank() as u64 + 1));
//! assert_eq!(sums, [6, 6, 6]);
//! assert!(ProcessGroup::single().is_main());
//! ```

mod buckets;
mod compression;
pub mod consistency;
pub mod diloco;
mod error;
pub mod flat_parameters;
pub mod optimizer_shards;
pub mod process_group;
pub mod zero1;

pub use diloco::{Diloco, DilocoConfig};
pub use error::{Error, Result};
pub use process_group::{Pending, ProcessGroup, threads};
pub use zero1::Zero1;
