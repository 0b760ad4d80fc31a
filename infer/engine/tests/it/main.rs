//! Tests of the engine through its public items.

mod engine;
