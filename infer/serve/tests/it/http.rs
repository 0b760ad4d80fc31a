//! HTTP over a loopback socket: cross-origin requests, errors, streams, metrics, slow clients.
//!
//! The tests of `retort-edge serve` hold the rest of the API.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use retort_engine::Model;
use retort_engine::speculate::Speculation;
use retort_serve::http::{Server, ServerOptions, default_limits};
use retort_test_kit::http::{Response, read};
use retort_test_kit::{Shape, write_gguf_changed};
use serde_json::json;
use tokio::sync::oneshot;

const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
const APP: (&str, &str) = ("origin", "https://app.example");

/// A server in this process that ends when this is dropped.
struct Running {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tiny.gguf");
        write_gguf_changed(&path, &Shape::default(), |writer| {
            writer.set("tokenizer.chat_template", TEMPLATE).unwrap();
        });
        let model = Arc::new(Model::open(&path).unwrap());
        let mut options = ServerOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            api_key: None,
            cors: None,
            name: None,
            limits: default_limits(&model, None, None),
            speculation: Speculation::Off,
            max_tokens: 16,
            max_body: 1 << 20,
            connections: 16,
            patience: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        };
        change(&mut options);
        let (end, ended) = oneshot::channel();
        let (started, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let server = Server::bind(model, options).await.unwrap();
                started.send(server.address().unwrap()).unwrap();
                server.run(async { drop(ended.await) }).await;
            });
        });
        Self {
            address: address.recv().unwrap(),
            end: Some(end),
            thread: Some(thread),
        }
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let length = body.len();
        text += &format!("connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).unwrap();
        read(stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn cors_preflight_of_the_allowed_origin_needs_no_key() {
    let server = Running::start(|options| {
        options.cors = Some(APP.1.into());
        options.api_key = Some("secret".into());
    });
    let preflight = [
        APP,
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ];
    let path = "/v1/chat/completions";
    let allowed = server.request("OPTIONS", path, &preflight, "");
    assert_eq!(allowed.status, 204);
    let header = |name: &str| allowed.header(name).unwrap().to_lowercase();
    assert_eq!(header("access-control-allow-origin"), APP.1);
    assert!(header("access-control-allow-methods").contains("post"));
    let headers = header("access-control-allow-headers");
    assert!(headers.contains("authorization") && headers.contains("content-type"));
    assert!(header("vary").contains("origin"));
    // the request itself needs it, and pages can read the error
    let refused = server.request("POST", path, &[APP], "{}");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(refused.header("access-control-allow-origin"), Some(APP.1));
    let other = ("origin", "https://other.example");
    let refused = server.request("OPTIONS", path, &[other, preflight[1]], "");
    assert_eq!(refused.status, 403);
    assert!(refused.header("access-control-allow-origin").is_none());
}

#[test]
fn cors_star_allows_every_origin() {
    let server = Running::start(|options| options.cors = Some("*".into()));
    let allowed = server.request("GET", "/v1/models", &[APP], "");
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("*"));
}

/// OpenAI's clients send a dozen headers of their own.
#[test]
fn a_preflight_allows_the_headers_it_asks_for() {
    let asked = "authorization,content-type,x-stainless-arch,x-stainless-os,openai-beta";
    for origin in ["*", APP.1] {
        let server = Running::start(|options| options.cors = Some(origin.into()));
        let preflight = [
            APP,
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", asked),
        ];
        let allowed = server.request("OPTIONS", "/v1/chat/completions", &preflight, "");
        assert_eq!(allowed.status, 204);
        assert_eq!(allowed.header("access-control-allow-headers"), Some(asked));
        let other = [
            ("origin", "https://other.example"),
            preflight[1],
            preflight[2],
        ];
        let other = server.request("OPTIONS", "/v1/models", &other, "");
        assert_eq!(other.status == 204, origin == "*");
    }
}

#[test]
fn a_model_whose_name_has_slashes_is_found() {
    let server = Running::start(|options| options.name = Some("org/team/sea".into()));
    let get = |path: &str| server.request("GET", path, &[], "");
    assert_eq!(get("/v1/models").json()["data"][0]["id"], "org/team/sea");
    for path in ["/v1/models/org/team/sea", "/v1/models/org%2Fteam%2Fsea"] {
        let found = get(path);
        assert_eq!(
            (found.status, &found.json()["id"]),
            (200, &json!("org/team/sea"))
        );
    }
    for path in [
        "/v1/models/org/team",
        "/v1/models/org/team/sea/x",
        "/v1/models/sea",
    ] {
        assert_eq!(get(path).status, 404, "{path}");
    }
}

#[test]
fn chunks_before_the_usage_say_that_they_have_none() {
    let server = Running::start(|_| {});
    for path in ["/v1/completions", "/v1/chat/completions"] {
        let mut body = json!({
            "prompt": "a", "messages": [{"role": "user", "content": "a"}], "max_tokens": 4,
            "stream": true, "ignore_eos": true
        });
        let ask = |body: &serde_json::Value| {
            server
                .request("POST", path, &[], &body.to_string())
                .events()
        };
        let plain = ask(&body);
        assert!(plain.iter().all(|event| event.get("usage").is_none()));
        body["stream_options"] = json!({"include_usage": true});
        let events = ask(&body);
        let (last, chunks) = events.split_last().unwrap();
        assert_eq!(last["usage"]["completion_tokens"], 4);
        assert!(!chunks.is_empty());
        for chunk in chunks {
            assert!(
                chunk.get("usage").is_some_and(|usage| usage.is_null()),
                "{chunk}"
            );
        }
    }
}

#[test]
fn text_offsets_of_a_stream_are_those_of_the_whole() {
    let server = Running::start(|_| {});
    for echo in [false, true] {
        let mut body = json!({
            "prompt": ["the sea", "x"], "max_tokens": 12, "seed": 5, "logprobs": 1, "echo": echo,
            "ignore_eos": true, "n": 2
        });
        let post = |body: &serde_json::Value| {
            server.request("POST", "/v1/completions", &[], &body.to_string())
        };
        let whole = post(&body).json();
        body["stream"] = true.into();
        let events = post(&body).events();
        for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
            let expected = choice["logprobs"]["text_offset"].as_array().unwrap();
            assert!(
                expected
                    .windows(2)
                    .all(|pair| pair[0].as_u64() <= pair[1].as_u64())
            );
            let ours: Vec<_> = (events.iter())
                .flat_map(|event| event["choices"].as_array().unwrap())
                .filter(|choice| choice["index"] == index)
                .filter_map(|choice| choice["logprobs"]["text_offset"].as_array())
                .flatten()
                .cloned()
                .collect();
            assert!(ours.len() >= 12);
            assert_eq!(&ours, expected, "echo {echo}");
        }
    }
}

#[test]
fn an_error_names_the_path_of_a_nested_field() {
    let server = Running::start(|_| {});
    for (body, param) in [
        (
            json!({"messages": [{"role": "user", "content": 1}]}),
            "messages[0].content",
        ),
        (json!({"messages": [{"role": "x"}]}), "messages[0].role"),
        (
            json!({"messages": [], "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
        ),
        (json!({}), "messages"),
    ] {
        let refused = server.request("POST", "/v1/chat/completions", &[], &body.to_string());
        assert_eq!(refused.status, 400);
        let error = &refused.json()["error"];
        assert_eq!(error["param"], param, "{error}");
        assert!(
            error["message"].as_str().unwrap().starts_with(param),
            "{error}"
        );
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["code"].is_null());
    }
}

#[test]
fn a_stream_has_one_data_line_an_event_and_ends_with_done() {
    let server = Running::start(|_| {});
    let body = json!({"prompt": "a", "max_tokens": 5, "stream": true, "ignore_eos": true});
    let stream = server.request("POST", "/v1/completions", &[], &body.to_string());
    assert_eq!(stream.status, 200);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.header("cache-control"), Some("no-store"));
    let events: Vec<&str> = stream.body.split_terminator("\n\n").collect();
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(*done, "data: [DONE]");
    assert!(!chunks.is_empty() && stream.body.ends_with("\n\n"));
    for chunk in chunks {
        assert!(chunk.starts_with("data: {\"id\":\"cmpl-"), "{chunk}");
        assert!(!chunk.contains('\n'), "{chunk}");
    }
}

#[test]
fn metrics_are_in_openmetrics_format() {
    let server = Running::start(|_| {});
    let body = json!({"prompt": "a", "max_tokens": 2, "ignore_eos": true}).to_string();
    assert_eq!(
        server.request("POST", "/v1/completions", &[], &body).status,
        200
    );
    let metrics = server.request("GET", "/metrics", &[], "");
    let kind = metrics.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    for line in [
        "retort_requests_accepted_total 1",
        "retort_first_token_seconds_count 1",
    ] {
        assert!(metrics.body.lines().any(|other| other == line), "{line}");
    }
}

#[test]
fn a_client_that_takes_nothing_up_is_disconnected() {
    const REQUESTS: usize = 4000;
    let server = Running::start(|options| options.patience = Duration::from_secs(1));
    let page = server.request("GET", "/", &[], "").body.len();
    let mut stream = TcpStream::connect(server.address).unwrap();
    let limit = Some(Duration::from_secs(20));
    stream.set_write_timeout(limit).unwrap();
    stream.set_read_timeout(limit).unwrap();
    let requests = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(REQUESTS);
    // fails where the server is gone before it has read all of them
    let _ = stream.write_all(requests.as_bytes());
    std::thread::sleep(Duration::from_secs(3));
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    assert!(answers.len() < REQUESTS * page, "everything was sent");
    assert_eq!(server.request("GET", "/health", &[], "").status, 200);
}
