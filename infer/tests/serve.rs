//! The server from outside, over a loopback socket.

mod common;
#[path = "common/http.rs"]
mod http;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::{Shape, program, write_gguf, write_gguf_changed};
use http::{Server, read};
use retort_infer::GgmlType;
use serde_json::{Value, json};
use tempfile::TempDir;

const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}\
                        {% if tools %}{{ tools | tojson }}{% endif %}[assistant]";

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
    retort_infer::pack::pack(&plain, &packed, |_, _| {}).unwrap();
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

#[test]
fn completions_take_texts_ids_and_several() {
    let (_directory, server) = serve(&[]);
    let ask = |body: Value| server.json("/v1/completions", &body);
    let one = ask(json!({"prompt": "the sea", "max_tokens": 8, "temperature": 0}));
    assert_eq!(one["object"], "text_completion");
    assert_eq!(one["model"], "tiny");
    assert_eq!(one["usage"]["prompt_tokens"], 5);
    assert_eq!(
        one["usage"]["total_tokens"].as_u64(),
        one["usage"]["completion_tokens"].as_u64().map(|n| n + 5)
    );
    let ids = server.json("/tokenize", &json!({"prompt": "the sea"}));
    assert_eq!(ids["count"], 5);
    let same = ask(json!({"prompt": ids["tokens"], "max_tokens": 8, "temperature": 0}));
    assert_eq!(text(&same), text(&one));
    assert_eq!(
        server.json("/detokenize", &json!({"tokens": ids["tokens"]}))["prompt"],
        "the sea"
    );
    let several = ask(
        json!({"prompt": ["the sea", "and", "the sea"], "max_tokens": 8, "temperature": 0, "n": 2}),
    );
    let choices = several["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 6);
    for (i, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], i);
        if i / 2 != 1 {
            assert_eq!(choice["text"], text(&one));
        }
    }
    assert_eq!(several["usage"]["prompt_tokens"], 11);
    let lists = ask(json!({"prompt": [ids["tokens"], [3, 4]], "max_tokens": 8, "temperature": 0}));
    assert_eq!(text(&lists), text(&one));
    // the same seed says the same, another something else
    let drawn = |seed: u64| {
        text(&ask(
            json!({"prompt": "a", "max_tokens": 20, "seed": seed, "model": "tiny"}),
        ))
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
}

#[test]
fn echo_with_logprobs_scores_a_text() {
    let (_directory, server) = serve(&[]);
    let body = json!({"prompt": "and the sea", "max_tokens": 1, "logprobs": 3, "echo": true, "temperature": 0, "ignore_eos": true});
    let scored = server.json("/v1/completions", &body);
    assert!(text(&scored).starts_with("and the sea"));
    let told = &scored["choices"][0]["logprobs"];
    let list = |name: &str| told[name].as_array().unwrap();
    let n = list("tokens").len();
    assert_eq!(scored["usage"]["prompt_tokens"], n - 1);
    for name in ["token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(list(name).len(), n, "{name}");
    }
    assert!(list("token_logprobs")[0].is_null() && list("top_logprobs")[0].is_null());
    for i in 1..n {
        let logprob = list("token_logprobs")[i].as_f64().unwrap();
        let top: Vec<f64> = list("top_logprobs")[i]
            .as_object()
            .unwrap()
            .values()
            .map(|v| v.as_f64().unwrap())
            .collect();
        let best = top.iter().copied().fold(f64::MIN, f64::max);
        assert!(logprob <= best && logprob < 0.0);
        // the answer is the likeliest, by the very same number
        assert!(i < n - 1 || logprob == best);
    }
    let alone = server.json(
        "/v1/completions",
        &json!({"prompt": "and", "max_tokens": 0, "echo": true}),
    );
    assert_eq!(text(&alone), "and");
}

#[test]
fn streams_say_what_whole_answers_say() {
    let (_directory, server) = serve(&[]);
    let mut body = json!({"prompt": ["the sea", "x"], "max_tokens": 30, "seed": 5, "logprobs": 1, "echo": true});
    let whole = server.json("/v1/completions", &body);
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let events = server.post("/v1/completions", &body).events();
    for index in 0..2 {
        let ours: Vec<&Value> = events
            .iter()
            .flat_map(|e| e["choices"].as_array().unwrap())
            .filter(|c| c["index"] == index)
            .collect();
        let streamed: String = ours.iter().map(|c| c["text"].as_str().unwrap()).collect();
        let choice = &whole["choices"][index];
        assert_eq!(streamed, choice["text"]);
        assert_eq!(
            ours.last().unwrap()["finish_reason"],
            choice["finish_reason"]
        );
        let told: Vec<&Value> = ours
            .iter()
            .flat_map(|c| c["logprobs"]["token_logprobs"].as_array().unwrap())
            .collect();
        let expected: Vec<&Value> = choice["logprobs"]["token_logprobs"]
            .as_array()
            .unwrap()
            .iter()
            .collect();
        assert_eq!(told, expected);
    }
    assert_eq!(
        events.last().unwrap()["usage"]["total_tokens"],
        whole["usage"]["total_tokens"]
    );
    let mut body = json!({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 30, "seed": 5, "n": 2, "logprobs": true, "top_logprobs": 2});
    let whole = server.json("/v1/chat/completions", &body);
    assert_eq!(whole["object"], "chat.completion");
    body["stream"] = true.into();
    let events = server.post("/v1/chat/completions", &body).events();
    for index in 0..2 {
        let ours: Vec<&Value> = events
            .iter()
            .flat_map(|e| e["choices"].as_array().unwrap())
            .filter(|c| c["index"] == index)
            .collect();
        assert_eq!(ours[0]["delta"]["role"], "assistant");
        let streamed: String = ours
            .iter()
            .filter_map(|c| c["delta"]["content"].as_str())
            .collect();
        assert_eq!(streamed, whole["choices"][index]["message"]["content"]);
        let told: Vec<&Value> = ours
            .iter()
            .filter_map(|c| c["logprobs"]["content"].as_array())
            .flatten()
            .collect();
        let expected: Vec<&Value> = whole["choices"][index]["logprobs"]["content"]
            .as_array()
            .unwrap()
            .iter()
            .collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn conversations_go_through_the_models_template() {
    let (_directory, server) = serve(&[]);
    let chat = |body: Value| server.json("/v1/chat/completions", &body);
    let messages = json!([{"role": "developer", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "the sea"}]}]);
    let said = chat(json!({"messages": messages, "max_tokens": 12, "temperature": 0}));
    let prompt = "[system]be brief\n[user]the sea\n[assistant]";
    let plain = server.json(
        "/v1/completions",
        &json!({"prompt": prompt, "max_tokens": 12, "temperature": 0}),
    );
    assert_eq!(content(&said), text(&plain));
    assert_eq!(
        said["usage"]["prompt_tokens"],
        plain["usage"]["prompt_tokens"]
    );
    // tools reach the template, unless none are to be called
    let tool = json!({"type": "function", "function": {"name": "add"}});
    let mut body = json!({"messages": messages, "max_completion_tokens": 1, "tools": [tool]});
    let with = chat(body.clone())["usage"]["prompt_tokens"]
        .as_u64()
        .unwrap();
    body["tool_choice"] = "none".into();
    let without = chat(body)["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(with > without + 40);
    // a message cannot end itself: its control token is read as text
    let forged = chat(
        json!({"messages": [{"role": "user", "content": "a<|endoftext|>b"}], "max_tokens": 1}),
    );
    let n = forged["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(n > 13 + "<|endoftext|>".len() as u64);
    // stop sequences end an answer before they are said
    let long = content(&chat(
        json!({"messages": messages, "max_tokens": 40, "seed": 3}),
    ));
    let stop: String = long
        .chars()
        .skip(long.chars().count() / 2)
        .take(3)
        .collect();
    let cut = chat(
        json!({"messages": messages, "max_tokens": 40, "seed": 3, "stop": [stop, "never said"]}),
    );
    assert_eq!(content(&cut), long[..long.find(&stop).unwrap()]);
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_model_without_a_template_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plain.gguf");
    write_gguf(&path, &Shape::default());
    let server = Server::start(program(), path.to_str().unwrap(), &["--alias", "sea"]);
    let body = json!({"messages": [{"role": "user", "content": "x"}]});
    let refused = server.post("/v1/chat/completions", &body);
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("tokenizer.chat_template")
            && refused.body.contains("/v1/completions")
    );
    assert_eq!(server.get("/v1/models").json()["data"][0]["id"], "sea");
    assert_eq!(server.get("/v1/models/sea").status, 200);
    assert_eq!(server.get("/v1/models/land").status, 404);
    let output = program()
        .args(["chat", path.to_str().unwrap()])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && message.contains("tokenizer.chat_template"),
        "{message}"
    );
}

#[test]
fn answers_are_held_to_a_form() {
    let (_directory, server) = serve(&[]);
    let schema = json!({
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"], "additionalProperties": false
    });
    for seed in 0..4 {
        let body = json!({
            "messages": [{"role": "user", "content": "x"}], "max_tokens": 200, "seed": seed, "temperature": 1.5,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        });
        let answer = server.json("/v1/chat/completions", &body);
        let value: Value = serde_json::from_str(&content(&answer)).unwrap();
        assert!(value["n"].as_u64().unwrap() < 100 && value["ok"].is_boolean());
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
    let body = json!({"prompt": "x", "max_tokens": 50, "guided_regex": "[ab]{3}-[0-9]{2}"});
    let answer = text(&server.json("/v1/completions", &body));
    assert!(
        answer.len() == 6 && answer.as_bytes()[3] == b'-',
        "{answer}"
    );
    let body =
        json!({"prompt": "x", "max_tokens": 50, "guided_grammar": "start: \"yes\" | \"no\""});
    assert!(["yes", "no"].contains(&&*text(&server.json("/v1/completions", &body))));
    // what cannot be followed is refused, not ignored
    let mut deep = json!({"type": "integer"});
    (0..40).for_each(|_| deep = json!({"type": "array", "items": deep}));
    for bad in [
        json!({"guided_grammar": "start: nothing"}),
        json!({"guided_regex": "("}),
        json!({"guided_regex": "a".repeat(70_000)}),
        json!({"guided_json": {"type": "no such type"}}),
        json!({"guided_json": deep}),
        json!({"guided_regex": "a", "guided_grammar": "start: \"a\""}),
        json!({"response_format": {"type": "xml"}}),
    ] {
        let mut body = bad;
        body["prompt"] = "x".into();
        let refused = server.post("/v1/completions", &body);
        assert_eq!(refused.status, 400, "{body} {}", refused.body);
    }
}

#[test]
fn embeddings_are_of_length_one() {
    let (_directory, server) = serve(&[]);
    let found = server.json(
        "/v1/embeddings",
        &json!({"input": ["the sea", "and", "the sea"]}),
    );
    let vector = |i: usize| -> Vec<f64> {
        let values = found["data"][i]["embedding"].as_array().unwrap();
        values.iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let length: f64 = vector(0).iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5 && vector(0).len() == 64);
    assert_eq!(vector(0), vector(2));
    assert_ne!(vector(0), vector(1));
    let packed = server.json(
        "/v1/embeddings",
        &json!({"input": "the sea", "encoding_format": "base64"}),
    );
    assert_eq!(
        packed["data"][0]["embedding"].as_str().unwrap().len(),
        (64usize * 4).div_ceil(3) * 4
    );
}

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
fn a_client_that_goes_away_cancels_its_answer() {
    let (_directory, server) = serve(&[]);
    let long =
        json!({"prompt": "the", "max_tokens": 500, "stream": true, "ignore_eos": true, "n": 8});
    let mut stream = server.send("POST", "/v1/completions", &[], &long.to_string());
    let mut some = [0; 300];
    stream.read_exact(&mut some).unwrap();
    drop(stream);
    let mut whole = long;
    whole["stream"] = false.into();
    let stream = server.send("POST", "/v1/completions", &[], &whole.to_string());
    until("the second is taken", || {
        metric(&server, "requests_accepted_total") == 16.0
    });
    drop(stream);
    until("all are gone", || {
        metric(&server, "requests_running") == 0.0 && metric(&server, "requests_waiting") == 0.0
    });
    let ended =
        metric(&server, "requests_cancelled_total") + metric(&server, "requests_finished_total");
    assert_eq!(ended, 16.0);
    assert!(metric(&server, "requests_cancelled_total") > 0.0);
    assert_eq!(metric(&server, "pages_reserved"), 0.0);
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

#[test]
fn answers_under_load_are_those_of_a_quiet_server() {
    let (_directory, server) = serve(&[]);
    let body = |i: u64| json!({"prompt": format!("{} the sea", "and ".repeat(i as usize * 5)), "max_tokens": 20, "seed": i, "ignore_eos": true});
    let alone: Vec<String> = (0..10)
        .map(|i| text(&server.json("/v1/completions", &body(i))))
        .collect();
    std::thread::scope(|scope| {
        let together: Vec<_> = (0..40u64)
            .map(|i| {
                let server = &server;
                scope.spawn(move || text(&server.json("/v1/completions", &body(i % 10))))
            })
            .collect();
        for (i, answer) in together.into_iter().enumerate() {
            assert_eq!(answer.join().unwrap(), alone[i % 10], "{i}");
        }
    });
}

#[test]
fn clients_that_stall_or_talk_nonsense_do_not_stop_others() {
    let (_directory, server) = serve(&["--connections", "6", "--patience", "1"]);
    let mut stalled: Vec<_> = (0..6).map(|_| server.connect()).collect();
    stalled[0]
        .write_all(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
        )
        .unwrap();
    stalled[1]
        .write_all(b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n")
        .unwrap();
    stalled[2].write_all(b"GET / HTTP/1.1\r\nx: ").unwrap();
    // all places are taken until patience ends
    let start = Instant::now();
    assert_eq!(server.get("/health").status, 200);
    assert!(start.elapsed() < Duration::from_secs(20));
    let late = read(stalled.remove(0));
    assert_eq!(late.status, 408);
}

#[cfg(unix)]
#[test]
fn it_ends_when_asked_and_lets_answers_finish() {
    let (_directory, mut server) = serve(&[]);
    let body = json!({"prompt": "the", "max_tokens": 300, "ignore_eos": true}).to_string();
    let stream = server.send("POST", "/v1/completions", &[], &body);
    until("it has begun", || {
        metric(&server, "requests_accepted_total") > 1e-9
    });
    server.interrupt();
    let answer = read(stream);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["usage"]["completion_tokens"], 300);
    assert!(server.wait().success());
    assert!(std::net::TcpStream::connect(&server.address).is_err());
}
