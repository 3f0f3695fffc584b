//! The blocking HTTP client of `sql`, `write` and `demo`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ureq::tls::{PemItem, RootCerts, TlsConfig};

use super::{CliError, CliResult};

/// Which server, which database.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientArgs {
    /// The server.
    #[arg(long, env = "MARIGRAM_URL", default_value = "http://127.0.0.1:8086", value_name = "URL")]
    pub(crate) url: String,
    /// The database.
    #[arg(long, env = "MARIGRAM_DB", default_value = "main", value_name = "NAME")]
    pub(crate) db: String,
    /// Sent as `Authorization: Bearer`, where the server asks for a token (`auth.enabled`).
    #[arg(long, env = "MARIGRAM_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Certificates that are trusted over https, in PEM; the system's without it.
    #[arg(long, env = "MARIGRAM_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// Where systems keep the certificates that they trust.
const SYSTEM_CA: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A connection that is kept between requests.
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

/// What is asked about tokens.
pub(crate) enum TokenCall<'a> {
    List,
    Create(&'a serde_json::Value),
    Revoke(u32),
}

/// What the server said to a write.
pub(crate) struct WriteReply {
    pub(crate) status: u16,
    /// The error's text; empty if there is none.
    pub(crate) message: String,
    /// (line, reason) of each refused line that is named.
    pub(crate) lines: Vec<(u64, String)>,
}

impl Client {
    pub(crate) fn new(args: &ClientArgs) -> CliResult<Self> {
        let mut config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_connect(Some(Duration::from_secs(10)));
        if args.url.starts_with("https:") {
            config = config.tls_config(trusting(args.ca.as_deref())?);
        }
        let (url, token) = (args.url.trim_end_matches('/').to_owned(), args.token.clone());
        Ok(Self { agent: config.build().into(), url, token })
    }

    /// Runs one statement; the answer's bytes in `format`.
    pub(crate) fn query(&self, db: &str, sql: &str, format: &str) -> CliResult<impl Read + use<>> {
        let body = serde_json::json!({ "db": db, "q": sql, "format": format }).to_string();
        let mut request =
            self.agent.post(format!("{}/api/v3/query_sql", self.url)).header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request.send(body).map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response.into_body().into_reader());
        }
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().unwrap_or_default();
        Err(CliError::failed(message_of(&text).unwrap_or_else(|| format!("the server answered {status}: {text}"))))
    }

    /// Sends one body of line protocol.
    pub(crate) fn write(&self, db: &str, precision: &str, body: &[u8]) -> CliResult<WriteReply> {
        let mut request =
            self.agent.post(format!("{}/api/v3/write_lp", self.url)).query("db", db).query("precision", precision);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request.send(body).map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let lines = json.get("data").and_then(|data| data.as_array()).map(|lines| {
            lines.iter().filter_map(|line| {
                let reason = line.get("error_message")?.as_str()?.to_owned();
                Some((line.get("line_number")?.as_u64()?, reason))
            })
        });
        let lines = lines.map(Iterator::collect).unwrap_or_default();
        Ok(WriteReply { status, message: message_of(&text).unwrap_or(text), lines })
    }

    /// A request about tokens, and the JSON of its answer.
    pub(crate) fn tokens(&self, call: TokenCall<'_>) -> CliResult<serde_json::Value> {
        let url = format!("{}/api/v1/tokens", self.url);
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}")).unwrap_or_default();
        let sent = match call {
            TokenCall::List => self.agent.get(url).header("authorization", bearer).call(),
            TokenCall::Create(wanted) => self.agent.post(url).header("authorization", bearer).send(wanted.to_string()),
            TokenCall::Revoke(id) => self.agent.delete(format!("{url}/{id}")).header("authorization", bearer).call(),
        };
        let mut response = sent.map_err(|error| self.unreachable(&error))?;
        let (status, text) = (response.status(), response.body_mut().read_to_string().unwrap_or_default());
        if !status.is_success() {
            let said = message_of(&text).unwrap_or_else(|| format!("the server answered {}: {text}", status.as_u16()));
            return Err(CliError::failed(said));
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    fn unreachable(&self, error: &ureq::Error) -> CliError {
        CliError::failed(format_args!("cannot reach {}: {error}", self.url))
            .hint("is the server running? `marigram serve` starts one; --url names another")
    }
}

/// Trusts what a file has, or what the system trusts.
fn trusting(file: Option<&Path>) -> CliResult<TlsConfig> {
    let found = || SYSTEM_CA.iter().map(Path::new).find(|path| path.exists());
    let path = file.or_else(found).ok_or_else(|| {
        CliError::failed("there are no certificates to trust on this system").hint("name some with --ca FILE")
    })?;
    let read = std::fs::read(path).map_err(|error| CliError::failed(format_args!("{}: {error}", path.display())))?;
    let certificates = ureq::tls::parse_pem(&read).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(CliError::failed(format_args!("{}: there is no certificate in it", path.display())));
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

fn message_of(text: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(json.get("message")?.as_str()?.to_owned())
}
