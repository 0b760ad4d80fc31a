//! The scheduler's metrics, in OpenMetrics text format for Prometheus.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use retort_files::memory::resident_bytes;

/// The media type of what [`Metrics::encode`] returns.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper ends of the buckets of times, in seconds.
const BUCKETS: [f64; 10] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Defines [`Metrics`]: a field, its first value, its name behind `retort_`, and its description.
macro_rules! metrics {
    ($($field:ident: $kind:ident($($initial:tt)*), $name:literal, $help:literal;)*) => {
        /// What an operator wants to know, counted without locks.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("retort");
                $(
                    let $field = $kind::$($initial)*;
                    registry.register($name, $help, $field.clone());
                )*
                Self { registry, $($field,)* }
            }
        }
    };
}

// the format adds `_total` to the names of counters
metrics! {
    accepted: Counter(default()), "requests_accepted", "Requests taken";
    refused: Counter(default()), "requests_refused", "Requests refused because the queue was full";
    finished: Counter(default()), "requests_finished", "Requests done";
    cancelled: Counter(default()), "requests_cancelled", "Requests whose client went away";
    failed: Counter(default()), "requests_failed", "Requests that ended in an error";
    prompt_tokens: Counter(default()), "prompt_tokens", "Tokens of prompts";
    reused_tokens: Counter(default()), "prompt_tokens_reused", "Tokens of prompts computed before";
    answer_tokens: Counter(default()), "answer_tokens", "Tokens of answers";
    passes: Counter(default()), "passes", "Forward passes of the engine";
    waiting: Gauge(default()), "requests_waiting", "Requests waiting";
    running: Gauge(default()), "requests_running", "Requests being worked on";
    pages: Gauge(default()), "pages", "Pages of keys and values that there may be";
    kept_pages: Gauge(default()), "pages_kept", "Pages kept for reuse";
    reserved_pages: Gauge(default()), "pages_reserved", "Pages reserved by running requests";
    resident_bytes: Gauge(default()), "resident_bytes",
        "Memory of the process, the mapped model included";
    first_token: Histogram(new(BUCKETS)), "first_token_seconds", "Time to the first token";
    next_token: Histogram(new(BUCKETS)), "next_token_seconds", "Time from token to token";
}

impl Metrics {
    /// All metrics, with the process's memory as it is now.
    pub fn encode(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            self.resident_bytes.set(bytes as i64);
        }
        let mut text = String::new();
        // writing to a string does not fail
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_keep_their_names() {
        let metrics = Metrics::default();
        metrics.accepted.inc_by(3);
        metrics.next_token.observe(0.3);
        let text = metrics.encode();
        for line in [
            "retort_requests_accepted_total 3",
            "retort_prompt_tokens_reused_total 0",
            "retort_passes_total 0",
            "retort_requests_running 0",
            "retort_pages_reserved 0",
            "retort_next_token_seconds_bucket{le=\"0.25\"} 0",
            "retort_next_token_seconds_bucket{le=\"0.5\"} 1",
            "retort_next_token_seconds_bucket{le=\"+Inf\"} 1",
            "retort_next_token_seconds_sum 0.3",
            "retort_next_token_seconds_count 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
