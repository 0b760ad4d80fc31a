//! The server from outside, over a loopback socket.

mod completions;
mod conversations;
mod refusals;
mod strain;

use std::time::{Duration, Instant};

use crate::program;
use retort_format::GgmlType;
use retort_test_kit::http::Server;
use retort_test_kit::{Shape, write_gguf_changed};
use serde_json::Value;
use tempfile::TempDir;

const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}\
                        {% if tools %}{{ tools | tojson }} Answer with <tool_call>{% endif %}[assistant]";

/// A packed model with a chat template, and a server for it.
fn serve(more: &[&str]) -> (TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let (plain, packed) = (
        directory.path().join("plain.gguf"),
        directory.path().join("tiny.gguf"),
    );
    let shape = Shape {
        ty: GgmlType::Q4_0,
        ..Shape::default()
    };
    write_gguf_changed(&plain, &shape, |writer| {
        writer.set("tokenizer.chat_template", TEMPLATE).unwrap();
    });
    retort_convert::pack::pack(&plain, &packed, |_, _| {}).unwrap();
    let server = Server::start(program(), packed.to_str().unwrap(), more);
    (directory, server)
}

fn text(response: &Value) -> String {
    response["choices"][0]["text"].as_str().unwrap().to_owned()
}

fn content(response: &Value) -> String {
    response["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The value of a figure in `/metrics`.
fn metric(server: &Server, name: &str) -> f64 {
    let body = server.get("/metrics").body;
    let line = body
        .lines()
        .find_map(|line| line.strip_prefix(&format!("retort_{name} ")));
    line.unwrap_or_else(|| panic!("{name} is not in {body}"))
        .parse()
        .unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
