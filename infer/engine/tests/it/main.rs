//! Tests of the engine through its public items.

mod constrain;
mod engine;
