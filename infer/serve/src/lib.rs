//! Serves one model to many clients at once.
//!
//! ```text
//! HTTP request ─► http ─► scheduler ─► one forward pass for all running requests
//!                  ▲                                     │
//!   response ◄─────┴───────────── tokens ◄───────────────┘
//! ```
//!
//! [`scheduler`] runs requests together on the engine and shares the keys and values of common
//! prefixes; [`http`] speaks OpenAI's API over it and serves the chat page. Only `http` knows of
//! sockets.

pub mod http;
pub mod scheduler;
