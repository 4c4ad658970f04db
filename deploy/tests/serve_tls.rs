//! TLS as clients of the built program meet it, with certificates that were made for these tests alone.

use std::io::{Read, Write};
use std::sync::Arc;

use serde_json::Value;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::fixture::Fixture;
use crate::serve::{Service, read};

const LINE: &str = "@model.onnx --tls-cert @cert.pem --tls-key @key.pem";

fn write(fixture: &Fixture, certificate: &str, key: &str) {
    std::fs::write(fixture.path("cert.pem"), certificate).unwrap();
    std::fs::write(fixture.path("key.pem"), key).unwrap();
}

type Encrypted = rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>;

/// A connection that trusts this certificate and no other.
fn trusting(service: &Service, certificate: &str) -> std::io::Result<Encrypted> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(PemObject::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut connection = rustls::ClientConnection::new(config, name).unwrap();
    let mut stream = service.connect();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(rustls::StreamOwned::new(connection, stream))
}

fn live(service: &Service, mut stream: Encrypted) -> Value {
    stream.write_all(service.head("GET", "/v2/health/live", &[], 0).as_bytes()).unwrap();
    read(stream).is(200)["live"].clone()
}

#[test]
fn connections_are_encrypted_with_a_certificate() {
    let fixture = Fixture::new();
    write(&fixture, CERTIFICATE, KEY);
    let service = Service::start(&fixture, LINE);
    assert_eq!(live(&service, trusting(&service, CERTIFICATE).unwrap()), true);
    assert!(trusting(&service, RENEWED).is_err(), "the certificate is another one");
    // Who speaks without encryption gets nothing.
    let mut plain = service.connect();
    plain.write_all(service.head("GET", "/v2/health/live", &[], 0).as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"));
}

#[test]
fn certificate_and_key_that_do_not_go_together_are_refused() {
    let fixture = Fixture::new();
    write(&fixture, CERTIFICATE, RENEWED_KEY);
    let refused = |facts: &[&str]| fixture.run(&format!("serve {LINE}")).error(facts);
    refused(&["key.pem", "--tls-cert", "--tls-key"]);
    write(&fixture, KEY, CERTIFICATE);
    refused(&["cert.pem", "--tls-cert", "--tls-key"]);
    write(&fixture, CERTIFICATE, "");
    refused(&["key.pem", "--tls-cert", "--tls-key"]);
    write(&fixture, "no certificate", KEY);
    refused(&["cert.pem", "--tls-cert", "--tls-key"]);
}

#[test]
fn a_renewed_certificate_is_taken_while_it_serves() {
    let fixture = Fixture::new();
    write(&fixture, CERTIFICATE, KEY);
    let service = Service::start(&fixture, LINE);
    let before = trusting(&service, CERTIFICATE).unwrap();
    // What does not go together is not taken, and the old one serves on.
    write(&fixture, RENEWED, KEY);
    service.signal("HUP");
    while !service.logged().contains("stay as they are") {
        std::thread::yield_now();
    }
    assert_eq!(live(&service, trusting(&service, CERTIFICATE).unwrap()), true);
    write(&fixture, RENEWED, RENEWED_KEY);
    service.signal("HUP");
    while !service.logged().contains("are read again") {
        std::thread::yield_now();
    }
    assert_eq!(live(&service, trusting(&service, RENEWED).unwrap()), true);
    assert!(trusting(&service, CERTIFICATE).is_err());
    assert_eq!(live(&service, before), true, "who is connected stays so");
}

/// Self-signed, for localhost, for a hundred years; made for this test alone.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBmDCCAT6gAwIBAgIUPkS7YKmVVYZXlmmd81MdFMXqIH4wCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODIzMDUyN1oYDzIxMjYxMTA0\n\
MjMwNTI3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAAR5jrJpqeaDzN2YNQXbDv928aOxWzrAhtKBjgtGtEDLvsgciQvCE2Kd\n\
eeSoAnXGSR7RsOsX3ma5ILnBjMqecHgSo2wwajAdBgNVHQ4EFgQUNgwKlg4y0D1j\n\
XmjLt6AhBX4/Kc4wHwYDVR0jBBgwFoAUNgwKlg4y0D1jXmjLt6AhBX4/Kc4wGgYD\n\
VR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMAwGA1UdEwEB/wQCMAAwCgYIKoZIzj0E\n\
AwIDSAAwRQIgXF/itWKq5SpunbbxwV0v1ycVjlEBWWFMC6iYHB7m8gUCIQCSNwdI\n\
yCnvZ6cyH0VeA07ds8BEcngWC3yJztFYX9IKKQ==\n\
-----END CERTIFICATE-----\n\
";

/// Its key.
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgWh6w+al7HT1PyqRc\n\
D23cyc5rxbSFiWKjfIHB4MBz5HWhRANCAAR5jrJpqeaDzN2YNQXbDv928aOxWzrA\n\
htKBjgtGtEDLvsgciQvCE2KdeeSoAnXGSR7RsOsX3ma5ILnBjMqecHgS\n\
-----END PRIVATE KEY-----\n\
";

/// Another one.
const RENEWED: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBlzCCAT6gAwIBAgIUCRoM3EyO3GNLnw6fFjoM2caAtlEwCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyOTA2NDcxMloYDzIxMjYxMTA1\n\
MDY0NzEyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAAQTHk+wRLoY8vDbqfbZwx1p86VVs5Qgf8ga8oJt8/g7Q9Z2E9+Fb8rz\n\
k1Aom7KyaTJHrmPqVDLZkivmzIdIL9rSo2wwajAdBgNVHQ4EFgQU6RfWCRZwu9H+\n\
jXhdEYKYvtTjkMgwHwYDVR0jBBgwFoAU6RfWCRZwu9H+jXhdEYKYvtTjkMgwGgYD\n\
VR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMAwGA1UdEwEB/wQCMAAwCgYIKoZIzj0E\n\
AwIDRwAwRAIgLNb/gmfgP/5D7Ss0HZyAJVk3FyTbQE18SayHkkSgJSYCIBwesfn3\n\
Q92yy3cT/QbSGH0oUQfP3fqrcNQEDNmcLKCS\n\
-----END CERTIFICATE-----\n\
";

/// Its key.
const RENEWED_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgLkwpASUjyIfLxVLD\n\
gj5AH3KAcqhdmmTSoj+nVnp0VVqhRANCAAQTHk+wRLoY8vDbqfbZwx1p86VVs5Qg\n\
f8ga8oJt8/g7Q9Z2E9+Fb8rzk1Aom7KyaTJHrmPqVDLZkivmzIdIL9rS\n\
-----END PRIVATE KEY-----\n\
";
