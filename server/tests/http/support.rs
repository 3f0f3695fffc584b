//! A server on a directory and port of its own, and a client that shows statuses instead of failing on them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use marigram_server::config::Sources;
use marigram_server::{Config, Server};
use tempfile::TempDir;

/// A server that stops when it is dropped.
pub struct Running {
    server: Option<Server>,
    agent: ureq::Agent,
    pub base: String,
    pub pg: SocketAddr,
    pub dir: TempDir,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().unwrap()
    }
}

pub fn config(dir: &TempDir, settings: &[(&str, &str)]) -> Config {
    let mut sources = Sources::default();
    sources.flag("test", "data_dir", dir.path().to_str().unwrap());
    sources.flag("test", "http", "127.0.0.1:0");
    sources.flag("test", "pg", "127.0.0.1:0");
    sources.flag("test", "memory_limit", "512 MiB");
    for (key, value) in settings {
        sources.flag("test", key, value);
    }
    sources.build().unwrap()
}

impl Running {
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_in(TempDir::new().unwrap(), settings)
    }

    pub fn start_in(dir: TempDir, settings: &[(&str, &str)]) -> Self {
        let server = Server::start(config(&dir, settings)).unwrap();
        let base = format!("http://{}", server.http_addr());
        let pg = server.pg_addrs()[0];
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        Self { server: Some(server), agent, base, pg, dir }
    }

    /// The text of the token that the first start with rights made.
    pub fn first_token(&self) -> Option<String> {
        self.server.as_ref().and_then(|server| server.first_token()).map(str::to_owned)
    }

    pub fn delete_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.delete(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.call().unwrap())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.call().unwrap())
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body.as_ref()).unwrap())
    }

    pub fn remove(&self, path: &str) -> Answer {
        answer(self.agent.delete(format!("{}{path}", self.base)).call().unwrap())
    }

    /// What `/metrics` says of one metric, whose labels are written as there.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }

    /// Sends bytes as they are and returns all that comes back until the server closes, or until nothing more comes.
    pub fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.base.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // A server that refuses early may close before all is sent.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read) = stream.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..read]);
            if read == 0 {
                break;
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Stops the server and gives its directory back.
    pub fn stop(mut self) -> TempDir {
        self.server.take().unwrap().stop().unwrap();
        std::mem::replace(&mut self.dir, TempDir::new().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abandon();
        }
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let body = response.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap();
    Answer { status: response.status().as_u16(), headers: response.headers().clone(), body }
}
