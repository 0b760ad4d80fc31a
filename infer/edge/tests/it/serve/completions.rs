//! What the API answers besides conversations: completions, streams, forms, embeddings.

use serde_json::{Value, json};

use super::{content, serve, text};

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
