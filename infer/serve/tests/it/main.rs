//! Tests of the scheduler and of the server's HTTP.

mod http;
mod scheduler;
