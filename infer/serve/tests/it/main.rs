//! Tests of the scheduler.

mod scheduler;
