//! TLS: the certificate of all listeners, read again when its files change, and what a client binds its proof to.
//!
//! Each port tells TLS from what is not by the first byte of a connection ([`Transport::accept`]). What is not encrypted is
//! let in from this machine only: a client elsewhere would send its token in the clear.

mod end_point;
mod transport;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) use transport::{Transport, is_near};

/// How a handshake of TLS begins.
pub(crate) const HANDSHAKE: u8 = 0x16;
/// How often is looked whether the files have changed.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What HTTP may be over TLS, the better first.
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// What a client says who begins with TLS on PostgreSQL's port.
const POSTGRESQL: &[u8] = b"postgresql";

/// The certificate in force.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    loaded: RwLock<Arc<Loaded>>,
}

/// What was read.
struct Loaded {
    http: TlsAcceptor,
    pg: TlsAcceptor,
    end_point: Option<Vec<u8>>,
    stamp: Option<Stamp>,
}

/// What tells whether files have changed.
type Stamp = [(SystemTime, u64); 2];

impl Tls {
    /// Of a chain of certificates and the key of the first, in PEM.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, String> {
        let loaded = RwLock::new(Arc::new(load(certificate, key)?));
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), loaded })
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn http(&self) -> TlsAcceptor {
        self.loaded().http.clone()
    }

    /// With what clients bind a channel to, if the certificate says how that is made.
    pub(crate) fn pg(&self) -> (TlsAcceptor, Option<Vec<u8>>) {
        let loaded = self.loaded();
        (loaded.pg.clone(), loaded.end_point.clone())
    }

    /// Reads the files again if they have changed. Where they cannot be used, what is in force stays so.
    pub(crate) fn look(&self) {
        let now = stamp(&self.certificate, &self.key);
        if now.is_none() || now == self.loaded().stamp {
            return;
        }
        match load(&self.certificate, &self.key) {
            Ok(loaded) => {
                *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                tracing::info!(path = %self.certificate.display(), "a new certificate is in force");
            }
            Err(reason) => {
                // Said once: these files are known now.
                let old = self.loaded();
                let known =
                    Loaded { stamp: now, http: old.http.clone(), pg: old.pg.clone(), end_point: old.end_point.clone() };
                *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
                tracing::warn!(reason, "the new certificate cannot be used, the old one stays");
            }
        }
    }
}

fn stamp(certificate: &Path, key: &Path) -> Option<Stamp> {
    let of = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    Some([of(certificate)?, of(key)?])
}

fn load(certificate: &Path, key: &Path) -> Result<Loaded, String> {
    let stamp = stamp(certificate, key);
    let of = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| of(certificate, &error))?;
    let Some(first) = chain.first() else { return Err(of(certificate, &"there is no certificate in it")) };
    let end_point = end_point::of(first);
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| of(key, &error))?;
    let config = |protocols: &[&[u8]]| {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let built = builder.with_no_client_auth().with_single_cert(chain.clone(), secret.clone_key());
        let mut config = built.map_err(|error| of(key, &error))?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok::<_, String>(TlsAcceptor::from(Arc::new(config)))
    };
    Ok(Loaded { http: config(&HTTP)?, pg: config(&[POSTGRESQL])?, end_point, stamp })
}
