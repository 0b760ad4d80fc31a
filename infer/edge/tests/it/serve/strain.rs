//! Clients that come together, go away or misbehave, and the server's end.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{metric, serve, text, until};
use retort_test_kit::http::read;

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
