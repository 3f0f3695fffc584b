//! What every reply carries, and the endpoints that need no data.

use super::support::Running;

#[test]
fn ping_is_empty_or_verbose_and_every_reply_carries_the_version_and_an_id() {
    let server = Running::start(&[]);
    let ping = server.get("/ping");
    assert_eq!((ping.status, ping.body.len()), (204, 0));
    for answer in [&ping, &server.get("/health"), &server.get("/nowhere"), &server.post("/ping", &[], "")] {
        assert!(answer.header("X-Influxdb-Version").starts_with("1.8.10-marigram-"));
        assert_eq!(answer.header("Request-Id"), answer.header("X-Request-Id"));
    }
    assert_ne!(ping.header("Request-Id"), server.get("/ping").header("Request-Id"));
    let named = server.get_with("/ping", &[("X-Request-Id", "my own id")]);
    assert_eq!(named.header("X-Request-Id"), "my own id");
    let verbose = server.get("/ping?verbose=true");
    assert_eq!(verbose.status, 200);
    assert_eq!(verbose.json()["version"], verbose.header("X-Influxdb-Version"));
    let head = server.raw(b"HEAD /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    server.stop();
}

#[test]
fn health_and_ready_speak_influxdb_2() {
    let server = Running::start(&[]);
    let health = server.get("/health");
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("pass")));
    assert_eq!(health.json()["name"], "influxdb");
    let ready = server.get("/ready");
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("ready")));
}

#[test]
fn unknown_paths_and_methods_are_json_errors() {
    let server = Running::start(&[]);
    let missing = server.get("/api/v9/nothing");
    assert_eq!((missing.status, missing.json()["code"].as_str()), (404, Some("not found")));
    assert!(missing.json()["error"].as_str().unwrap().contains("/api/v9/nothing"));
    let wrong = server.post("/health", &[], "");
    assert_eq!((wrong.status, wrong.json()["code"].as_str()), (405, Some("method not allowed")));
    assert_eq!(wrong.header("Allow"), "GET,HEAD");
}

#[test]
fn metrics_are_prometheus_text_with_help_and_type() {
    let server = Running::start(&[]);
    server.get("/ping");
    let metrics = server.get("/metrics");
    assert_eq!(metrics.header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = metrics.text();
    let mut names = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.split_once(' ').unwrap().1.ends_with('.'), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            names.push(rest.split_once(' ').unwrap().0);
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = names.last().expect("a sample comes after its type");
            assert!(sample.starts_with(name), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(20 <= names.len(), "{} metrics", names.len());
    assert!(text.contains("marigram_http_replies_total{class=\"2xx\"} 1\n"), "{text}");
}
