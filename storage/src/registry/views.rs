//! Definitions of views. The caller holds the gate, behind a fence: what is resolved is all there is.

use std::sync::Arc;

use super::{Registry, Resolved, State, check_name};
use crate::catalog::views::{VIEW_BYTES_MAX, VIEW_COLUMNS_MAX, VIEWS_BYTES_MAX, VIEWS_MAX, View};
use crate::catalog::{Catalog, Fact};
use crate::error::{Error, Result};
use crate::schema::DatabaseId;
use crate::sync::lock;

/// A view that `CREATE VIEW` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewSpec {
    /// Case-sensitive.
    pub name: String,
    /// The query, as it was written.
    pub sql: String,
    /// Its columns: name, and what the maker calls the type.
    pub columns: Vec<(String, String)>,
    /// Takes the place of a view of this name.
    pub or_replace: bool,
}

impl Registry {
    /// The batch of `CREATE VIEW`.
    pub(crate) fn create_view(&self, database: &str, spec: &ViewSpec) -> Result<Resolved> {
        check_name("view name", &spec.name)?;
        for (column, kind) in &spec.columns {
            check_name("column name", column)?;
            check_name("type name", kind)?;
        }
        if VIEW_BYTES_MAX < spec.sql.len() || VIEW_COLUMNS_MAX < spec.columns.len() {
            let reason = format!(
                "its query has {} bytes and {} columns, {VIEW_BYTES_MAX} and {VIEW_COLUMNS_MAX} are allowed",
                spec.sql.len(),
                spec.columns.len()
            );
            return Err(Error::Limit { what: "view", reason });
        }
        let mut state = lock(&self.shared.state);
        let database = state.database(database, false)?;
        let taken = |what| Err(Error::AlreadyExists { what, name: spec.name.clone() });
        if state.catalog.table(database, &spec.name).is_some() {
            return taken("table");
        }
        let id = match state.catalog.view(database, &spec.name) {
            Some(_) if !spec.or_replace => return taken("view"),
            Some(known) => known.id,
            None => state.catalog.next_table(),
        };
        let (name, sql, columns) = (spec.name.clone(), spec.sql.clone(), spec.columns.clone());
        let view = View { id, database, name, sql, columns };
        check_room(&state.catalog, &view)?;
        state.change_view(Fact::View(Arc::new(view)))
    }

    /// The batch of `ALTER VIEW … RENAME TO`.
    pub(crate) fn rename_view(&self, database: &str, view: &str, to: &str) -> Result<Resolved> {
        check_name("view name", to)?;
        let mut state = lock(&self.shared.state);
        let database = state.database(database, false)?;
        let known = state.find_view(database, view)?;
        let taken = |what| Err(Error::AlreadyExists { what, name: to.to_owned() });
        if state.catalog.table(database, to).is_some() {
            return taken("table");
        }
        if state.catalog.view(database, to).is_some_and(|other| other.id != known.id) {
            return taken("view");
        }
        let renamed = View { name: to.to_owned(), ..View::clone(&known) };
        state.change_view(Fact::View(Arc::new(renamed)))
    }

    /// The batch of `DROP VIEW`.
    pub(crate) fn drop_view(&self, database: &str, view: &str) -> Result<Resolved> {
        let mut state = lock(&self.shared.state);
        let database = state.database(database, false)?;
        let known = state.find_view(database, view)?;
        state.change_view(Fact::ViewDropped(known.id))
    }
}

impl State {
    /// A drop, as far as batches are concerned that were resolved before: they know names that it may take.
    fn change_view(&mut self, fact: Fact) -> Result<Resolved> {
        self.drops += 1;
        self.apply(&fact)?;
        Ok(self.resolved(vec![fact]))
    }

    fn find_view(&self, database: DatabaseId, name: &str) -> Result<Arc<View>> {
        let known = self.catalog.view(database, name).cloned();
        known.ok_or_else(|| Error::NotFound { what: "view", name: name.to_owned() })
    }
}

/// Whether there is room for a view, in the place of that of its id.
fn check_room(catalog: &Catalog, view: &View) -> Result<()> {
    let others = catalog.all_views().filter(|other| other.id != view.id);
    let (count, bytes) = others.fold((0, 0), |(count, bytes), other| (count + 1, bytes + other.bytes()));
    if VIEWS_MAX <= count || VIEWS_BYTES_MAX < bytes + view.bytes() {
        let reason = format!(
            "the store has {count} views of {bytes} bytes, {VIEWS_MAX} and {VIEWS_BYTES_MAX} are allowed together"
        );
        return Err(Error::Limit { what: "view", reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sim::SimClock;
    use crate::disk::sim::SimDisk;
    use crate::draft::{Draft, DraftTable};
    use crate::values::Values;
    use crate::{Engine, Options, Threads, World};

    fn spec(name: &str, sql: &str) -> ViewSpec {
        let columns = vec![("a".to_owned(), "int8".to_owned())];
        ViewSpec { name: name.to_owned(), sql: sql.to_owned(), columns, or_replace: false }
    }

    fn open(disk: &SimDisk) -> Engine {
        let options = Options { threads: Threads::None, disk_reserve_bytes: 0, ..Options::default() };
        Engine::open(World::of(disk, &SimClock::new(1)), options).unwrap()
    }

    fn shown(engine: &Engine) -> Vec<(u32, String, String)> {
        let snapshot = engine.snapshot();
        snapshot.catalog().all_views().map(|view| (view.id.0, view.name.clone(), view.sql.clone())).collect()
    }

    fn draft(table: &str) -> Draft {
        Draft { tables: vec![DraftTable::of_host(table, "a", vec![1], Values::I64(vec![1]))], position: None }
    }

    #[test]
    fn a_view_is_there_after_a_restart_with_a_cut_and_without_one() {
        for is_cut in [false, true] {
            let disk = SimDisk::new(1);
            let engine = open(&disk);
            engine.write("main", &draft("cpu")).unwrap();
            engine.create_view("main", &spec("v", "SELECT 1")).unwrap();
            engine.create_view("main", &spec("w", "SELECT 2")).unwrap();
            engine.create_view("main", &ViewSpec { or_replace: true, ..spec("w", "SELECT 3") }).unwrap();
            engine.rename_view("main", "v", "x").unwrap();
            engine.create_view("main", &spec("gone", "SELECT 4")).unwrap();
            engine.drop_view("main", "gone").unwrap();
            if is_cut {
                engine.cut().unwrap();
            }
            let before = shown(&engine);
            assert_eq!(
                before.iter().map(|(_, name, sql)| format!("{name} {sql}")).collect::<Vec<_>>(),
                ["x SELECT 1", "w SELECT 3"]
            );
            drop(engine);
            let engine = open(&disk.restart());
            assert_eq!(shown(&engine), before);
            engine.create_view("main", &spec("later", "SELECT 5")).unwrap();
            let ids: Vec<u32> = shown(&engine).iter().map(|(id, ..)| *id).collect();
            assert_eq!(ids.len(), 3);
            assert!(ids[2] > before[1].0 + 1, "the id of the one that went is not given again: {ids:?}");
        }
    }

    #[test]
    fn a_view_has_its_name_alone() {
        let engine = open(&SimDisk::new(1));
        engine.write("main", &draft("cpu")).unwrap();
        engine.create_view("main", &spec("v", "SELECT 1")).unwrap();
        let is_taken = |result: Result<()>, of: &str| match result {
            Err(Error::AlreadyExists { what, .. }) => assert_eq!(what, of),
            other => panic!("{other:?}"),
        };
        is_taken(engine.create_view("main", &spec("v", "SELECT 2")), "view");
        is_taken(engine.create_view("main", &ViewSpec { or_replace: true, ..spec("cpu", "SELECT 2") }), "table");
        is_taken(engine.rename_view("main", "v", "cpu"), "table");
        assert!(matches!(engine.write("main", &draft("v")), Err(Error::Invalid { what: "table name", .. })));
        assert!(matches!(engine.drop_view("main", "cpu"), Err(Error::NotFound { what: "view", .. })));
        assert!(matches!(
            engine.create_view("nowhere", &spec("v", "SELECT 1")),
            Err(Error::NotFound { what: "database", .. })
        ));
        assert_eq!(shown(&engine).len(), 1);
        engine.write("main", &draft("cpu")).unwrap();
        engine.drop_view("main", "v").unwrap();
        engine.write("main", &draft("v")).unwrap();
    }

    #[test]
    fn views_are_bounded_one_by_one_and_together() {
        let engine = open(&SimDisk::new(1));
        let long = "x".repeat(VIEW_BYTES_MAX);
        assert!(matches!(engine.create_view("main", &spec("v", &format!("{long}x"))), Err(Error::Limit { .. })));
        for number in 0..63 {
            engine.create_view("main", &spec(&format!("v{number}"), &long)).unwrap();
        }
        assert!(matches!(engine.create_view("main", &spec("v63", &long)), Err(Error::Limit { .. })));
        engine.create_view("main", &ViewSpec { or_replace: true, ..spec("v0", &long) }).unwrap();
        engine.create_view("main", &spec("short", "SELECT 1")).unwrap();
    }
}
