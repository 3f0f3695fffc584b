//! The text of a token: `mg_<id>_<43 characters>`, the last of them 256 bits of the operating system's randomness.
//!
//! The store keeps a digest and a verifier of it. The id tells which to look at; the digest decides, in constant time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use marigram_storage::token::{Digest, TokenId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

const PREFIX: &str = "mg_";
/// Longer texts are none of ours.
const TEXT_BYTES_MAX: usize = 128;

/// A new one.
pub(crate) fn draw(id: TokenId) -> std::io::Result<String> {
    let mut bytes = [0; 32];
    random(&mut bytes)?;
    Ok(format!("{PREFIX}{}_{}", id.0, URL_SAFE_NO_PAD.encode(bytes)))
}

/// Randomness that nobody can guess.
pub(crate) fn random(bytes: &mut [u8]) -> std::io::Result<()> {
    getrandom::fill(bytes).map_err(|error| std::io::Error::other(error.to_string()))
}

/// The id that a text names.
pub(crate) fn id_of(text: &str) -> Option<TokenId> {
    let (id, _) = text.strip_prefix(PREFIX).filter(|_| text.len() <= TEXT_BYTES_MAX)?.split_once('_')?;
    id.parse().ok().map(TokenId)
}

/// What is kept of a text.
pub(crate) fn digest(text: &str) -> Digest {
    Digest(Sha256::digest(text.as_bytes()).into())
}

/// Whether a digest is that of a text.
pub(crate) fn is_of(text: &str, known: &Digest) -> bool {
    digest(text).0.ct_eq(&known.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_its_id_and_is_drawn_anew_each_time() {
        let (one, other) = (draw(TokenId(7)).unwrap(), draw(TokenId(7)).unwrap());
        assert_ne!(one, other);
        assert_eq!((id_of(&one), one.len()), (Some(TokenId(7)), "mg_7_".len() + 43));
        assert!(is_of(&one, &digest(&one)) && !is_of(&one, &digest(&other)));
        for text in ["", "mg_", "mg_7", "mg_x_y", "mg_-1_y", "7_y", &format!("mg_7_{}", "y".repeat(200))] {
            assert_eq!(id_of(text), None, "{text}");
        }
    }
}
