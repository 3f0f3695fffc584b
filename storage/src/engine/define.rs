//! Databases, tables, columns and tokens: what is made, changed and dropped.

use super::Engine;
use crate::error::Result;
use crate::registry::{TableSpec, ViewSpec};
use crate::schema::ColumnKind;
use crate::token::{Token, TokenId};
use crate::widening::Widening;

impl Engine {
    /// `CREATE DATABASE`. Durable on return.
    pub fn create_database(&self, name: &str, if_not_exists: bool) -> Result<()> {
        self.shared.define(|registry| registry.create_database(name, if_not_exists))
    }

    /// `DROP DATABASE`, with all its tables. Durable on return.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        self.shared.drop_named(|registry| registry.drop_database(name))
    }

    /// `CREATE TABLE`. Durable on return, also where it existed.
    pub fn create_table(&self, database: &str, spec: &TableSpec, if_not_exists: bool) -> Result<()> {
        self.shared.define(|registry| registry.create_table(database, spec, if_not_exists))
    }

    /// `CREATE [OR REPLACE] VIEW`. Durable on return.
    pub fn create_view(&self, database: &str, spec: &ViewSpec) -> Result<()> {
        self.shared.alter(|registry, _| registry.create_view(database, spec))
    }

    /// `ALTER VIEW … RENAME TO`. Durable on return.
    pub fn rename_view(&self, database: &str, view: &str, to: &str) -> Result<()> {
        self.shared.alter(|registry, _| registry.rename_view(database, view, to))
    }

    /// `DROP VIEW`. Durable on return.
    pub fn drop_view(&self, database: &str, view: &str) -> Result<()> {
        self.shared.alter(|registry, _| registry.drop_view(database, view))
    }

    /// `DROP TABLE`. Durable on return.
    pub fn drop_table(&self, database: &str, table: &str) -> Result<()> {
        self.shared.drop_named(|registry| registry.drop_table(database, table))
    }

    /// `ADD COLUMN`: a tag or a field. Durable on return, also where it existed.
    pub fn add_column(
        &self,
        database: &str,
        table: &str,
        column: (&str, ColumnKind),
        if_not_exists: bool,
    ) -> Result<()> {
        self.shared.define(|registry| registry.add_column(database, table, column, if_not_exists))
    }

    /// `RENAME COLUMN`. Durable on return.
    pub fn rename_column(&self, database: &str, table: &str, column: &str, to: &str) -> Result<()> {
        self.shared.alter(|registry, _| registry.rename_column(database, table, column, to))
    }

    /// `DROP COLUMN`: nobody sees it any more. Its id stays used, and rows stay in their series by a hidden tag, too. Durable
    /// on return.
    pub fn hide_column(&self, database: &str, table: &str, column: &str) -> Result<()> {
        self.shared.alter(|registry, _| registry.hide_column(database, table, column))
    }

    /// Makes a field of integers one of doubles, if each stored value is within ±2⁵³. No file is rewritten. Durable on return.
    pub fn widen_column(&self, database: &str, table: &str, column: &str) -> Result<()> {
        let shared = &self.shared;
        let mut widening = Widening::default();
        // Most of it is looked at before anybody waits.
        let ahead = shared.published.load_full();
        let found = ahead.catalog.database(database).and_then(|known| ahead.catalog.table(known.id, table));
        if let Some((known, column)) = found.and_then(|known| Some((known, known.column(column)?))) {
            widening.check(&ahead, known, column)?;
        }
        shared.alter(|registry, published| {
            registry.widen_column(database, table, column, |table, column| widening.check(published, table, column))
        })
    }

    /// Gives partitions of rows behind the last one that is stored another width. Durable on return.
    pub fn set_partition_width(&self, database: &str, table: &str, width_ns: i64) -> Result<()> {
        self.shared.alter(|registry, published| {
            registry.set_width(database, table, width_ns, |table| published.last_time(table))
        })
    }

    /// Makes a token, whose id is that of [`crate::catalog::Catalog::next_token`]. Durable on return, also on a full disk.
    ///
    /// # Errors
    /// [`crate::Error::AlreadyExists`] if another took the id meanwhile, or has the name.
    pub fn create_token(&self, token: Token) -> Result<()> {
        self.shared.change_alone(|registry| registry.create_token(token))
    }

    /// Takes a token away: it is worth nothing from the next look at [`Engine::catalog`] on. Durable on return.
    pub fn revoke_token(&self, id: TokenId) -> Result<()> {
        self.shared.change_alone(|registry| registry.revoke_token(id))
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::sim::SimClock;
    use crate::disk::sim::SimDisk;
    use crate::token::{Digest, Grant, Rights, Token, TokenId, Verifier};
    use crate::{Engine, Error, Options, Threads, World};

    fn token(id: TokenId, name: &str) -> Token {
        Token {
            id,
            name: name.to_owned(),
            digest: Digest([1; 32]),
            verifier: Verifier { salt: [2; 16], iterations: 4096, stored_key: [3; 32], server_key: [4; 32] },
            grants: vec![Grant { database: None, rights: Rights::ALL }],
            created_ns: 1,
            expires_ns: None,
        }
    }

    /// The ids of tokens, and the next one.
    fn ids(engine: &Engine) -> (Vec<u32>, u32) {
        let catalog = engine.catalog();
        (catalog.tokens().map(|token| token.id.0).collect(), catalog.next_token().0)
    }

    #[test]
    fn tokens_are_there_after_a_restart_with_and_without_a_cut_and_their_ids_are_never_given_again() {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let open = || {
            let options = Options { threads: Threads::None, disk_reserve_bytes: 0, ..Options::default() };
            Engine::open(World::of(&disk, &clock), options).unwrap()
        };
        let create = |engine: &Engine, name: &str| engine.create_token(token(engine.catalog().next_token(), name));
        let engine = open();
        create(&engine, "a").unwrap();
        create(&engine, "b").unwrap();
        engine.revoke_token(TokenId(1)).unwrap();
        assert_eq!(ids(&engine), (vec![0], 2));
        drop(engine); // the log has them
        let engine = open();
        assert_eq!(ids(&engine), (vec![0], 2));
        engine.close().unwrap(); // the manifest has them
        let engine = open();
        assert_eq!(ids(&engine), (vec![0], 2));
        assert!(matches!(create(&engine, "a"), Err(Error::AlreadyExists { what: "token", .. })));
        let taken = engine.create_token(token(TokenId(1), "c"));
        assert!(matches!(taken, Err(Error::AlreadyExists { what: "token", .. })), "{taken:?}");
        assert!(matches!(engine.revoke_token(TokenId(1)), Err(Error::NotFound { what: "token", .. })));
        let nameless = create(&engine, "");
        assert!(matches!(nameless, Err(Error::Invalid { what: "token", .. })), "{nameless:?}");
        create(&engine, "b").unwrap();
        assert_eq!(ids(&engine), (vec![0, 2], 3), "the name of a token that was revoked is free");
    }

    #[test]
    fn a_token_can_be_made_and_taken_back_on_a_full_disk() {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let options = Options { threads: Threads::None, disk_reserve_bytes: u64::MAX, ..Options::default() };
        let engine = Engine::open(World::of(&disk, &clock), options).unwrap();
        assert!(matches!(engine.create_database("x", false), Err(Error::DiskFull { .. })));
        engine.create_token(token(TokenId(0), "a")).unwrap();
        engine.revoke_token(TokenId(0)).unwrap();
        assert_eq!(ids(&engine), (vec![], 1));
    }
}
