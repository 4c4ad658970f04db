//! Certificates of the service.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::DeployError;

/// A certificate chain and its private key, for TLS 1.2 and 1.3.
///
/// # Errors
/// If a file cannot be read or they do not go together.
pub(crate) fn read(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, DeployError> {
    let wrong = |path: &Path, problem: String| DeployError::Tls { path: path.to_owned(), problem };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|problem| wrong(chain, problem.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong(chain, "it holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|problem| wrong(key, problem.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|problem| wrong(key, problem.to_string()))?;
    Ok(Arc::new(config))
}
