//! Recipe, devices, optimizer, schedule, training loop, checkpoints and metrics.
