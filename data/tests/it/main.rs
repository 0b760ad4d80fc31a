//! Text to batches: sources, readers, order, packing, cursors and the hub.

mod batches;
mod cursor;
mod fixture;
mod hub;
mod memory;
mod mutated;
mod packing;
mod pretokenized;
mod selection;
mod shards;
mod support;

/// Counts what is allocated; the tests that read its peak run in processes of their own
/// ([`alone`](retort_test_kit::alone)).
#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
