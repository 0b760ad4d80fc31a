//! Several ranks as threads of one process.

mod consistency;
mod diloco;
mod flat_parameters;
mod process_group;
mod tiny;
mod zero1;
