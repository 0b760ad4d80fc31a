//! Teachers and distillation losses.
