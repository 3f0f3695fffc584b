//! What `tls-server-end-point` binds a channel to (RFC 5929): the certificate, by the hash that it was signed with.

use sha2::{Digest, Sha256, Sha384, Sha512};

/// Object identifiers of signatures, encoded, by the hash that they are made with.
const SHA256: [&[u8]; 4] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
    // Of MD5 and SHA-1, for which SHA-256 stands.
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
];
const SHA384: [&[u8]; 2] =
    [&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]];
const SHA512: [&[u8]; 2] =
    [&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04]];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// Of a certificate in DER; `None`: it was signed in a way that names no hash, so no channel can be bound.
pub(super) fn of(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = signed_with(certificate)?;
    if SHA256.contains(&algorithm) {
        Some(Sha256::digest(certificate).to_vec())
    } else if SHA384.contains(&algorithm) {
        Some(Sha384::digest(certificate).to_vec())
    } else if SHA512.contains(&algorithm) {
        Some(Sha512::digest(certificate).to_vec())
    } else {
        None
    }
}

/// `SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }`
fn signed_with(certificate: &[u8]) -> Option<&[u8]> {
    let (whole, _) = value(certificate, SEQUENCE)?;
    let (_, rest) = value(whole, SEQUENCE)?;
    let (algorithm, _) = value(rest, SEQUENCE)?;
    value(algorithm, OBJECT_IDENTIFIER).map(|(name, _)| name)
}

/// The value of this tag that bytes begin with, and what is behind it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    if *first == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let mut all = vec![SEQUENCE, 0x82];
        all.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        all.extend(body);
        all
    }

    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let name = [&[OBJECT_IDENTIFIER, u8::try_from(algorithm.len()).unwrap()], algorithm].concat();
        sequence(&[&sequence(&[&[5; 300]]), &sequence(&[&name]), &[3, 1, 0]])
    }

    #[test]
    fn a_certificate_is_hashed_as_it_was_signed() {
        for (algorithms, bytes) in [(&SHA256[..], 32), (&SHA384, 48), (&SHA512, 64)] {
            for algorithm in algorithms {
                assert_eq!(of(&certificate(algorithm)).unwrap().len(), bytes);
            }
        }
        assert_eq!(of(&certificate(&[0x2b, 0x65, 0x70])), None, "Ed25519 names no hash");
    }

    #[test]
    fn no_bytes_panic() {
        let whole = certificate(SHA256[0]);
        for length in 0..whole.len() {
            let _ = of(&whole[..length]);
        }
        for at in 0..16 {
            for byte in 0..=255 {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = of(&changed);
            }
        }
    }
}
