//! What is refused, and how that is said.

use serde_json::{Value, json};

use super::serve;
use crate::program;
use retort_test_kit::http::read;

#[test]
fn errors_have_openais_shape_and_name_the_field() {
    let (_directory, server) = serve(&["--max-body", "64", "--ctx", "128"]);
    let refused = |path: &str, body: Value, param: &str| {
        let response = server.post(path, &body);
        assert_eq!(response.status, 400, "{body}: {}", response.body);
        let error = &response.json()["error"];
        assert_eq!(error["param"], param, "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(!error["message"].as_str().unwrap().contains('\n'));
    };
    let with = |name: &str, value: Value| {
        let mut body = json!({"prompt": "x", "messages": [{"role": "user", "content": "x"}]});
        body[name] = value;
        body
    };
    for (name, value) in [
        ("temperature", json!(-1)),
        ("temperature", json!("hot")),
        ("temperature", json!(1e40)),
        ("top_p", json!(2)),
        ("n", json!(0)),
        ("n", json!(1000)),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(1.5)),
        ("seed", json!("x")),
        ("stop", json!([1])),
        ("stop", json!({})),
        ("stream", json!("yes")),
        ("logit_bias", json!({"a": 1})),
        ("logit_bias", json!({"1": 200})),
        ("frequency_penalty", json!(3)),
        ("presence_penalty", json!(-3)),
        ("mirostat", json!(1)),
        ("min_p", json!(-1)),
        ("model", json!(7)),
        ("stream_options", json!(1)),
    ] {
        for path in ["/v1/completions", "/v1/chat/completions"] {
            refused(path, with(name, value.clone()), name);
        }
    }
    let completions = "/v1/completions";
    refused(completions, json!({}), "prompt");
    refused(completions, json!({"prompt": []}), "prompt");
    refused(completions, json!({"prompt": [["a"]]}), "prompt");
    refused(
        completions,
        json!({"prompt": "x", "logprobs": 21}),
        "logprobs",
    );
    refused(completions, json!({"prompt": "x", "best_of": 2}), "best_of");
    let chat = "/v1/chat/completions";
    refused(chat, json!({"messages": []}), "messages");
    refused(
        chat,
        json!({"messages": [{"role": "user"}]}),
        "messages[0].content",
    );
    refused(chat, with("tools", json!([1])), "tools");
    refused(chat, with("tool_choice", json!("required")), "tool_choice");
    refused(chat, with("top_logprobs", json!(2)), "top_logprobs");
    refused(chat, with("max_tokens", json!(1000)), "max_tokens");
    refused(
        "/v1/embeddings",
        json!({"input": "x", "dimensions": 3}),
        "dimensions",
    );
    refused("/detokenize", json!({"tokens": [-1]}), "tokens");
    let status =
        |method: &str, path: &str, body: &str| server.request(method, path, &[], body).status;
    assert_eq!(status("POST", completions, "no JSON"), 400);
    assert_eq!(status("POST", completions, "[1]"), 400);
    assert_eq!(
        status(
            "POST",
            completions,
            &format!("{{\"a\":{}1{}}}", "[".repeat(9999), "]".repeat(9999))
        ),
        400
    );
    assert_eq!(status("POST", completions, &" ".repeat(70_000)), 413);
    assert_eq!(status("GET", completions, ""), 405);
    assert_eq!(status("GET", "/nothing", ""), 404);
    let unknown = server.post(completions, &json!({"prompt": "x", "model": "gpt-9"}));
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["error"]["code"], "model_not_found");
    let long = server.post(
        completions,
        &json!({"prompt": "sea ".repeat(100), "max_tokens": 9}),
    );
    assert!(
        long.status == 400 && long.body.contains("context of 128"),
        "{}",
        long.body
    );
    assert_eq!(server.get("/health").json()["status"], "ok");
}

#[test]
fn keys_hosts_and_origins_are_checked() {
    let (directory, server) = serve(&["--api-key", "open-sesame"]);
    let status = |headers: &[(&str, &str)]| server.request("GET", "/v1/models", headers, "").status;
    assert_eq!(status(&[]), 401);
    assert_eq!(status(&[("authorization", "Bearer open-sesam")]), 401);
    assert_eq!(status(&[("authorization", "open-sesame")]), 401);
    assert_eq!(status(&[("authorization", "Bearer open-sesame")]), 200);
    let page = server.get("/");
    assert!(page.status == 200 && page.body.contains("<!doctype html>"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"));
    assert!(!page.body.contains("src=\"http") && !page.body.contains("href=\"http"));
    assert_eq!(server.get("/health").status, 200);
    drop(server);
    let (_other, server) = serve(&[]);
    let status = |headers: &[(&str, &str)]| server.request("GET", "/v1/models", headers, "").status;
    assert_eq!(status(&[("host", "evil.example")]), 403);
    assert_eq!(status(&[("host", "localhost:1")]), 200);
    assert_eq!(status(&[("origin", "https://evil.example")]), 403);
    assert_eq!(status(&[("origin", "null")]), 403);
    let own = format!("http://{}", server.address);
    let answered = server.request("GET", "/v1/models", &[("origin", &own)], "");
    assert_eq!(answered.status, 200);
    assert_eq!(answered.header("access-control-allow-origin"), None);
    drop(server);
    let (_other, server) = serve(&["--cors", "https://app.example"]);
    let answered = server.request(
        "OPTIONS",
        "/v1/models",
        &[("origin", "https://app.example")],
        "",
    );
    assert_eq!(answered.status, 204);
    assert_eq!(
        answered.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    let origin = [("origin", "https://evil.example")];
    assert_eq!(
        server.request("OPTIONS", "/v1/models", &origin, "").status,
        403
    );
    // elsewhere only with a key
    let model = directory.path().join("tiny.gguf");
    let output = program()
        .args(["serve", model.to_str().unwrap(), "--host", "0.0.0.0"])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && message.contains("API key"),
        "{message}"
    );
}

#[test]
fn a_full_queue_is_429_with_a_time_to_wait() {
    let (_directory, server) = serve(&["--parallel", "1", "--queue", "2"]);
    let long = json!({"prompt": "the", "max_tokens": 500, "ignore_eos": true}).to_string();
    let streams: Vec<_> = (0..12)
        .map(|_| server.send("POST", "/v1/completions", &[], &long))
        .collect();
    let answers: Vec<_> = streams.into_iter().map(read).collect();
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    assert!(!refused.is_empty() && answers.iter().any(|answer| answer.status == 200));
    for answer in refused {
        assert!(
            answer
                .header("retry-after")
                .unwrap()
                .parse::<u64>()
                .unwrap()
                > 0
        );
        assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
    }
    // nothing was lost by it
    assert_eq!(
        server
            .post("/v1/completions", &json!({"prompt": "x"}))
            .status,
        200
    );
}
