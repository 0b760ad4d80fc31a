//! Who may ask: keys, and whose pages.
//!
//! Without a key, what keeps others out is the loopback interface; but any page that a browser on this machine shows
//! could reach that too. So a request that says it comes from another origin is refused unless that origin is allowed,
//! and without a key, so is one for a host that is not this machine (a name that was made to point here).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use hyper::{Method, StatusCode};

use super::App;
use super::error::ApiError;

/// Lets requests with the key through.
pub(super) async fn key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if let Some(key) = &app.settings.api_key {
        let given = header(&request, &AUTHORIZATION);
        let given = given.and_then(|value| value.strip_prefix("Bearer "));
        if !given.is_some_and(|given| same(given.trim().as_bytes(), key.as_bytes())) {
            let message = "the API key is missing or wrong; send it as Authorization: Bearer KEY";
            let error = ApiError::new(StatusCode::UNAUTHORIZED, message);
            let mut response = error.with_code("invalid_api_key").into_response();
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            return response;
        }
    }
    next.run(request).await
}

/// Lets requests from allowed origins through, and says so.
pub(super) async fn origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let forbidden = |message: &str| ApiError::new(StatusCode::FORBIDDEN, message).into_response();
    let host = header(&request, &HOST).map(str::to_owned);
    if app.settings.api_key.is_none() && !host.as_deref().is_none_or(is_this_machine) {
        return forbidden("without an API key, only this machine's own names are answered");
    }
    let origin = header(&request, &ORIGIN).map(str::to_owned);
    let own = |origin: &str| {
        let address = origin
            .strip_prefix("http://")
            .or(origin.strip_prefix("https://"));
        address.is_some() && address == host.as_deref()
    };
    let allowed = match (origin.as_deref(), app.settings.cors.as_deref()) {
        (None, _) => None,
        (Some(origin), _) if own(origin) => None,
        (Some(_), Some("*")) => Some("*".to_owned()),
        (Some(origin), Some(cors)) if origin == cors => Some(cors.to_owned()),
        _ => return forbidden("pages of this origin may not use this server; see --cors"),
    };
    let mut response = match (&allowed, request.method() == Method::OPTIONS) {
        (Some(_), true) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            let headers = response.headers_mut();
            let methods = HeaderValue::from_static("GET, POST, OPTIONS");
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            let names = HeaderValue::from_static("authorization, content-type");
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
            response
        }
        _ => next.run(request).await,
    };
    if let Some(allowed) = allowed.and_then(|allowed| HeaderValue::from_str(&allowed).ok()) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(VARY, HeaderValue::from_static("origin"));
    }
    response
}

fn header<'r>(request: &'r Request, name: &HeaderName) -> Option<&'r str> {
    request.headers().get(name)?.to_str().ok()
}

/// Whether a host, with or without a port, is a name that only this machine can have.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let address = name.parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Whether two keys are the same, in a time that does not tell where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a
        .iter()
        .zip(b)
        .fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0 && a.len() == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "evil.example:8080",
            "192.168.1.4:80",
            "localhost.evil.example",
            "",
            "[::2]",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn keys_are_compared_whole() {
        assert!(same(b"key", b"key") && same(b"", b""));
        assert!(!same(b"key", b"kez") && !same(b"key", b"ke") && !same(b"", b"key"));
    }
}
