//! Tokens: who may do what in which databases, as facts of the catalog.
//!
//! A token is made once and revoked once, and never changes. Here is what is kept of it: a digest of its text and what
//! SCRAM-SHA-256 verifies a password with, so that whoever reads the files cannot use it. How texts are made and compared is
//! the server's business. Byte layout: `storage/format/batch.md`.

use std::fmt;

use crate::schema::NAME_BYTES_MAX;

/// More tokens are refused; those that were revoked do not count.
pub const TOKENS_MAX: usize = 10_000;
/// More grants of one token are refused.
pub const GRANTS_MAX: usize = 100;
/// A longer name is refused.
pub const TOKEN_NAME_BYTES_MAX: usize = 128;

/// Names a token. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u32);

/// A set of rights.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rights(u8);

/// Rights in one database or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// By name, which may come to be later, and may go and come again. `None`: all databases, and the store itself.
    pub database: Option<String>,
    /// Not empty.
    pub rights: Rights,
}

/// What SCRAM-SHA-256 verifies that a client knows the token's text with (RFC 5802).
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// Of the key derivation.
    pub salt: [u8; 16],
    /// Of the key derivation.
    pub iterations: u32,
    /// What the client's key hashes to.
    pub stored_key: [u8; 32],
    /// What the server proves itself with.
    pub server_key: [u8; 32],
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Never reused.
    pub id: TokenId,
    /// No other token has it until this one is revoked.
    pub name: String,
    /// SHA-256 of its text.
    pub digest: Digest,
    /// For wires that do not send the text.
    pub verifier: Verifier,
    /// What it may.
    pub grants: Vec<Grant>,
    /// By the wall clock, ns since the epoch.
    pub created_ns: i64,
    /// From then on it is worth nothing.
    pub expires_ns: Option<i64>,
}

/// SHA-256 of a token's text. Not shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({self})")
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join("+"))
    }
}

impl std::ops::BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Reads rows and what the catalog says of them.
    pub const READ: Self = Self(1);
    /// Stores rows.
    pub const WRITE: Self = Self(2);
    /// Takes rows away.
    pub const DELETE: Self = Self(4);
    /// Makes and drops databases, tables and tokens; whoever has it has the others too.
    pub const ADMIN: Self = Self(8);
    /// Everything.
    pub const ALL: Self = Self(15);

    const NAMED: [(Self, &'static str); 4] =
        [(Self::READ, "read"), (Self::WRITE, "write"), (Self::DELETE, "delete"), (Self::ADMIN, "admin")];

    /// Of the bits on disk; `None`: there is none, or an unknown one.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (0 < bits && bits <= Self::ALL.0).then_some(Self(bits))
    }

    /// As they are on disk.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The right of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|(_, known)| *known == name).map(|(right, _)| right)
    }

    /// The names of those that it was made of.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.into_iter().filter(move |(right, _)| self.0 & right.0 != 0).map(|(_, name)| name)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of these are among them.
    pub fn hold(self, wanted: Self) -> bool {
        self.whole().0 & wanted.whole().0 == wanted.whole().0
    }

    /// With those that an administrator has by being one.
    fn whole(self) -> Self {
        if self.0 & Self::ADMIN.0 == 0 { self } else { Self::ALL }
    }
}

impl Token {
    /// What it may in a database of this name, whether there is one or not.
    pub fn rights_in(&self, database: &str) -> Rights {
        let is_meant = |grant: &&Grant| grant.database.as_deref().is_none_or(|named| named == database);
        self.grants.iter().filter(is_meant).fold(Rights::NONE, |all, grant| all | grant.rights)
    }

    /// What it may in every database, and with the store itself.
    pub fn rights_in_all(&self) -> Rights {
        let of_all = self.grants.iter().filter(|grant| grant.database.is_none());
        of_all.fold(Rights::NONE, |all, grant| all | grant.rights)
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now_ns: i64) -> bool {
        self.expires_ns.is_some_and(|expires_ns| expires_ns <= now_ns)
    }

    /// `Err` names the rule that it breaks.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || TOKEN_NAME_BYTES_MAX < self.name.len() || self.name.contains(char::is_control) {
            return Err(format!("the name has not 1 to {TOKEN_NAME_BYTES_MAX} bytes without control characters"));
        }
        if self.grants.is_empty() || GRANTS_MAX < self.grants.len() {
            return Err(format!("it has {} grants, 1 to {GRANTS_MAX} are allowed", self.grants.len()));
        }
        if self.grants.iter().any(|grant| grant.rights.is_empty()) {
            return Err("a grant has no right".to_owned());
        }
        let cannot_be = |name: &&String| name.is_empty() || NAME_BYTES_MAX < name.len();
        match self.grants.iter().filter_map(|grant| grant.database.as_ref()).find(cannot_be) {
            Some(name) => Err(format!("no database has a name of {} bytes, as a grant says", name.len())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::Fact;

    fn token(grants: &[(Option<&str>, Rights)]) -> Token {
        let grant = |(database, rights): &(Option<&str>, Rights)| Grant {
            database: database.map(str::to_owned),
            rights: *rights,
        };
        Token {
            id: TokenId(1),
            name: "t".to_owned(),
            digest: Digest([0; 32]),
            verifier: Verifier { salt: [0; 16], iterations: 1, stored_key: [0; 32], server_key: [0; 32] },
            grants: grants.iter().map(grant).collect(),
            created_ns: 0,
            expires_ns: Some(10),
        }
    }

    #[test]
    fn rights_add_up_by_database_and_an_administrator_has_all() {
        let some = token(&[(Some("a"), Rights::READ), (None, Rights::WRITE), (Some("b"), Rights::ADMIN)]);
        assert!(some.rights_in("a").hold(Rights::READ | Rights::WRITE));
        assert!(!some.rights_in("a").hold(Rights::DELETE));
        assert!(!some.rights_in("c").hold(Rights::READ));
        assert!(some.rights_in("c").hold(Rights::WRITE));
        assert!(some.rights_in("b").hold(Rights::ALL));
        assert!(!some.rights_in_all().hold(Rights::ADMIN));
        assert_eq!(some.rights_in("a").to_string(), "read+write");
    }

    /// What is taken is read again, or the store would not open.
    #[test]
    fn a_database_has_the_name_that_a_database_may_have() {
        for (bytes, is_one) in [(0, false), (1, true), (NAME_BYTES_MAX, true), (NAME_BYTES_MAX + 1, false)] {
            let token = token(&[(Some(&"x".repeat(bytes)), Rights::READ)]);
            assert_eq!(token.check().is_ok(), is_one, "{bytes} bytes");
            let mut body = Vec::new();
            Fact::Token(Arc::new(token.clone())).encode(&mut body);
            let read = Fact::decode_all(&body);
            assert_eq!(read.is_ok_and(|read| read == [Fact::Token(Arc::new(token))]), is_one, "{bytes} bytes");
        }
    }

    #[test]
    fn a_token_is_worth_nothing_from_its_end_on() {
        assert!(!token(&[]).is_expired(9));
        assert!(token(&[]).is_expired(10));
    }
}
