//! Operations as other crates call them.

mod memory;

/// Counts what is allocated; the tests that read its peak run in processes of their own
/// ([`alone`](retort_test_kit::alone)).
#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
