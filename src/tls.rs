//! TLS for every client of the agent: one provider of cryptography, no global state, roots as the caller has them.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};

/// A client's certificate chain with its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Why there is no TLS connection, in words that name neither an address nor what a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody who is trusted has signed the peer's certificate.
    #[error("the issuer of its certificate is not trusted")]
    UnknownIssuer,
    /// The certificate is for somebody else.
    #[error("its certificate is for another name")]
    OtherName,
    /// The certificate's time is over.
    #[error("its certificate has expired, or the node's clock is wrong")]
    Expired,
    /// The certificate's time is still to come.
    #[error("its certificate is not valid yet, or the node's clock is wrong")]
    NotYetValid,
    /// Something else is wrong with the peer's certificate.
    #[error("its certificate is of no use here")]
    Unusable,
    /// The peer wants a client's certificate, or another one.
    #[error("it wants a client certificate that it accepts")]
    ClientCertificate,
    /// The two cannot agree, or the peer speaks no TLS.
    #[error("no TLS connection; does it speak TLS there?")]
    NoAgreement,
}

impl Refusal {
    /// What an error means to a person.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied,
            ) => Self::ClientCertificate,
            _ => Self::NoAgreement,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            _ => Self::Unusable,
        }
    }
}

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

#[cfg(test)]
pub(crate) mod tests;
