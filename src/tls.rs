//! TLS for every client of the agent: one provider of cryptography, no global state, roots as the caller has them.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, Error, RootCertStore};

/// A client's certificate chain with its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A configuration that trusts `roots` and shows `identity` where it is asked for one. It is made by hand because
/// reqwest's default wants a CA bundle in the image and a provider that is installed for the whole process.
pub fn client_config(roots: RootCertStore, identity: Option<Identity>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    match identity {
        Some((certificates, key)) => builder.with_client_auth_cert(certificates, key),
        None => Ok(builder.with_no_client_auth()),
    }
}
