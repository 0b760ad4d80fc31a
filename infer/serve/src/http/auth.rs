//! Who may ask: the API key, and the origins whose pages may use the server.
//!
//! Without a key, the loopback interface keeps other machines out, but any page that a browser on
//! this machine shows could reach it. So a request from another origin is refused unless that
//! origin is allowed; and without a key, so is a request for a host that is not this machine, whose
//! name was made to point here (DNS rebinding).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN};
use hyper::{Method, StatusCode};
use subtle::ConstantTimeEq;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::app::App;
use super::error::{ApiError, Result};

/// Lets requests with the key through.
pub(super) async fn check_key(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response> {
    if let Some(key) = &app.options.api_key {
        let given = header(&request, &AUTHORIZATION);
        let given = given.and_then(|value| value.strip_prefix("Bearer "));
        let is_key = |given: &str| given.trim().as_bytes().ct_eq(key.as_bytes()).into();
        if !given.is_some_and(is_key) {
            let message = "the API key is missing or wrong; send it as Authorization: Bearer KEY";
            let error = ApiError::new(StatusCode::UNAUTHORIZED, message);
            return Err(error.with_code("invalid_api_key"));
        }
    }
    Ok(next.run(request).await)
}

/// Lets requests from this server's own pages and from the allowed origin through.
pub(super) async fn check_origin(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response> {
    let forbidden = |message: &str| Err(ApiError::new(StatusCode::FORBIDDEN, message));
    let host = header(&request, &HOST);
    if app.options.api_key.is_none() && !host.is_none_or(is_this_machine) {
        return forbidden("without an API key, only this machine's own names are answered");
    }
    if let Some(origin) = header(&request, &ORIGIN) {
        let address = origin.strip_prefix("http://");
        let address = address.or(origin.strip_prefix("https://"));
        let own = address.is_some() && address == host;
        let cors = app.options.cors.as_deref();
        if !own && cors != Some("*") && cors != Some(origin) {
            return forbidden("pages of this origin may not use this server; see --cors");
        }
    }
    let preflight = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if preflight && response.status() == StatusCode::OK {
        // the answer of `CorsLayer`, which has no body
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    Ok(response)
}

/// Tells browsers that pages of `allowed`, an origin or `*`, may use the server.
pub(super) fn cors(allowed: &str) -> CorsLayer {
    let origin = match HeaderValue::from_str(allowed) {
        Ok(origin) if allowed != "*" => AllowOrigin::list([origin]),
        _ => AllowOrigin::any(),
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
        // clients add headers of their own, OpenAI's a dozen
        .allow_headers(AllowHeaders::mirror_request())
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
}
