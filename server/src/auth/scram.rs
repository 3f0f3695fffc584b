//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side, as PostgreSQL frames it.
//!
//! The password is a token's text. A user that is not known goes through the same exchange with a salt that is always the
//! same for the name, and fails at its end, so that nobody learns which names there are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use marigram_storage::token::Verifier;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// The mechanism that is always offered.
pub(crate) const MECHANISM: &str = "SCRAM-SHA-256";
/// The one that binds the proof to the channel.
pub(crate) const WITH_BINDING: &str = "SCRAM-SHA-256-PLUS";
/// What it is bound by, as a client says it.
const END_POINT: &str = "p=tls-server-end-point";
/// Of the key derivation: what a text of 256 random bits is protected by is its length, so this is PostgreSQL's habit times
/// two and a half.
const ITERATIONS: u32 = 10_000;
/// A longer nonce of a client is refused.
const NONCE_BYTES_MAX: usize = 256;

/// Why an exchange ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The client breaks the protocol.
    Broken(&'static str),
    /// It does not know the password, or there is no such user.
    Refused,
}

/// What is known of the channel.
pub(crate) enum Binding {
    /// It cannot be bound.
    None,
    /// It can, and the client takes the other mechanism.
    Offered,
    /// It is: to this.
    Used(Vec<u8>),
}

/// An exchange after the client's first message.
pub(crate) struct Exchange {
    verifier: Verifier,
    /// There is a user to prove to be.
    is_known: bool,
    /// The client's header, which it repeats, with what the channel is bound to behind it.
    header: Vec<u8>,
    nonce: String,
    /// The client's first message without its header.
    bare: String,
    challenge: String,
}

/// What is kept of a password.
pub(crate) fn verifier(password: &str, salt: [u8; 16]) -> Verifier {
    let salted = salted(password.as_bytes(), &salt, ITERATIONS);
    let stored_key = Sha256::digest(hmac(&salted, b"Client Key")).into();
    Verifier { salt, iterations: ITERATIONS, stored_key, server_key: hmac(&salted, b"Server Key") }
}

/// What a name that nobody has is verified with: nothing proves it.
pub(crate) fn mock(user: &str, key: &[u8]) -> Verifier {
    let drawn = hmac(key, user.as_bytes());
    let mut salt = [0; 16];
    salt.copy_from_slice(&drawn[..16]);
    Verifier { salt, iterations: ITERATIONS, stored_key: hmac(key, &drawn), server_key: [0; 32] }
}

/// PBKDF2 of one block.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut block = hmac(password, &[salt, &1_u32.to_be_bytes()].concat());
    let mut all = block;
    for _ in 1..iterations {
        block = hmac(password, &block);
        all.iter_mut().zip(block).for_each(|(all, of)| *all ^= of);
    }
    all
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // A key may be of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

impl Exchange {
    /// Reads the client's first message. `verifier`: that of the user, or a mock.
    pub(crate) fn begin(
        first: &str,
        verifier: Verifier,
        is_known: bool,
        ours: &str,
        binding: Binding,
    ) -> Result<Self, Failed> {
        let broken = |what| Err(Failed::Broken(what));
        let Some((flag, rest)) = first.split_once(',') else { return broken("the first message has no header") };
        let bound = match (flag, binding) {
            ("n", Binding::None | Binding::Offered) | ("y", Binding::None) => Vec::new(),
            (END_POINT, Binding::Used(end_point)) => end_point,
            // It would bind the channel and believes that we cannot: somebody took our offer away.
            ("y", Binding::Offered) => return broken("channel binding was offered, and did not arrive"),
            _ => return broken("the mechanism binds the channel in another way"),
        };
        let Some((authorized, bare)) = rest.split_once(',') else { return broken("the first message has no header") };
        if !authorized.is_empty() {
            return broken("nobody acts for another");
        }
        // The name is that of the start-up message.
        let Some(theirs) = bare.split_once(',').filter(|(name, _)| name.starts_with("n=")) else {
            return broken("the first message has no name");
        };
        let nonce = theirs.1.split(',').next().and_then(|nonce| nonce.strip_prefix("r="));
        let Some(theirs) = nonce.filter(|nonce| !nonce.is_empty() && nonce.len() <= NONCE_BYTES_MAX) else {
            return broken("the first message has no nonce");
        };
        let nonce = format!("{theirs}{ours}");
        let header = [format!("{flag},,").into_bytes(), bound].concat();
        let challenge = format!("r={nonce},s={},i={}", STANDARD.encode(verifier.salt), verifier.iterations);
        Ok(Self { verifier, is_known, header, nonce, bare: bare.to_owned(), challenge })
    }

    /// What the client is told after its first message.
    pub(crate) fn challenge(&self) -> &str {
        &self.challenge
    }

    /// Reads the last message. What the client is told, if it knows the password.
    pub(crate) fn finish(&self, last: &str) -> Result<String, Failed> {
        let Some((without_proof, proof)) = last.rsplit_once(",p=") else {
            return Err(Failed::Broken("the last message has no proof"));
        };
        let mut parts = without_proof.split(',');
        let bound = parts.next().and_then(|part| part.strip_prefix("c="));
        if bound.and_then(|bound| STANDARD.decode(bound).ok()).as_deref() != Some(self.header.as_slice()) {
            return Err(Failed::Broken("the last message repeats another header"));
        }
        if parts.next().and_then(|part| part.strip_prefix("r=")) != Some(self.nonce.as_str()) {
            return Err(Failed::Broken("the last message has another nonce"));
        }
        let proof: Option<[u8; 32]> = STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok());
        let Some(mut key) = proof else { return Err(Failed::Broken("the proof has another length")) };
        let signed = format!("{},{},{without_proof}", self.bare, self.challenge);
        let signature = hmac(&self.verifier.stored_key, signed.as_bytes());
        key.iter_mut().zip(signature).for_each(|(key, of)| *key ^= of);
        let hashed: [u8; 32] = Sha256::digest(key).into();
        let is_right = bool::from(hashed.ct_eq(&self.verifier.stored_key));
        match is_right && self.is_known {
            true => Ok(format!("v={}", STANDARD.encode(hmac(&self.verifier.server_key, signed.as_bytes())))),
            false => Err(Failed::Refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    fn of_rfc(is_known: bool) -> Exchange {
        let salt: [u8; 16] = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        let salted = salted(b"pencil", &salt, 4096);
        let verifier = Verifier {
            salt,
            iterations: 4096,
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server_key: hmac(&salted, b"Server Key"),
        };
        let ours = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        Exchange::begin("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", verifier, is_known, ours, Binding::None).unwrap()
    }

    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_exchange_of_the_rfc_is_held_to_the_letter() {
        let exchange = of_rfc(true);
        assert_eq!(
            exchange.challenge(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        assert_eq!(exchange.finish(LAST).unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_wrong_proof_and_an_unknown_user_are_refused_alike() {
        assert_eq!(of_rfc(false).finish(LAST), Err(Failed::Refused));
        let other = LAST.replace("p=dHzb", "p=eHzb");
        assert_eq!(of_rfc(true).finish(&other), Err(Failed::Refused));
        let kept = verifier("mg_1_secret", [7; 16]);
        assert_eq!(kept.iterations, ITERATIONS);
        assert_ne!(kept.stored_key, verifier("mg_1_secreT", [7; 16]).stored_key);
    }

    #[test]
    fn what_breaks_the_protocol_ends_the_exchange() {
        let begin = |first: &str| Exchange::begin(first, mock("me", b"key"), false, "ours", Binding::None).err();
        for first in ["", "n", "n,,", "n,,n=", "n,,n=,r=", "p=tls-server-end-point,,n=,r=x", "n,a=b,n=,r=x", "n,,r=x"] {
            assert!(matches!(begin(first), Some(Failed::Broken(_))), "{first:?}");
        }
        assert_eq!(begin("y,,n=,r=x"), None);
        for last in [
            String::new(),
            "c=biws".to_owned(),
            LAST.replace("biws", "eSws"),
            LAST.replace("r=rO", "r=r0"),
            LAST.replace("p=dH", "p="),
            LAST.replace("c=biws,", ""),
        ] {
            assert!(matches!(of_rfc(true).finish(&last), Err(Failed::Broken(_))), "{last:?}");
        }
    }

    #[test]
    fn a_channel_is_bound_as_it_was_agreed_or_not_at_all() {
        let begin = |first: &str, binding| Exchange::begin(first, mock("me", b"key"), false, "ours", binding);
        let bound = || Binding::Used(b"hash".to_vec());
        let (plain, asking) = ("n,,n=,r=x", "y,,n=,r=x");
        let binding = "p=tls-server-end-point,,n=,r=x";
        assert!(begin(plain, Binding::Offered).is_ok());
        for (first, agreed) in [
            (asking, Binding::Offered), // the offer was taken away on its way
            (plain, bound()),
            (asking, bound()),
            (binding, Binding::None),
            (binding, Binding::Offered),
            ("p=tls-unique,,n=,r=x", bound()),
        ] {
            assert!(matches!(begin(first, agreed), Err(Failed::Broken(_))), "{first}");
        }
        let exchange = begin(binding, bound()).unwrap_or_else(|error| panic!("{error:?}"));
        let last = |header: &[u8]| format!("c={},r=xours,p={}", STANDARD.encode(header), STANDARD.encode([0; 32]));
        assert_eq!(exchange.finish(&last(b"p=tls-server-end-point,,hash")), Err(Failed::Refused));
        for other in [&b"p=tls-server-end-point,,hasH"[..], b"p=tls-server-end-point,,", b"n,,"] {
            assert!(matches!(exchange.finish(&last(other)), Err(Failed::Broken(_))), "bound to something else");
        }
    }

    #[test]
    fn an_unknown_name_always_has_the_same_salt() {
        assert_eq!(mock("me", b"key"), mock("me", b"key"));
        assert_ne!(mock("me", b"key").salt, mock("you", b"key").salt);
    }
}
