//! Views: named queries. Here they are texts, and what they mean is for others.
//!
//! Names of views and tables are of one kind, and so are their ids: neither is given twice.

use std::sync::Arc;

use super::Catalog;
use crate::schema::{DatabaseId, TableId};

/// Bytes of the text of one, at most.
pub const VIEW_BYTES_MAX: usize = 64 << 10;
/// Views of a store.
pub(crate) const VIEWS_MAX: usize = 1000;
/// Bytes of all their texts: each cut writes them again.
pub(crate) const VIEWS_BYTES_MAX: usize = 4 << 20;
/// Columns of one.
pub const VIEW_COLUMNS_MAX: usize = 4096;

/// A named query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Never reused, nor that of a table.
    pub id: TableId,
    /// Where it belongs, and where its names are looked up.
    pub database: DatabaseId,
    /// Case-sensitive.
    pub name: String,
    /// The query, as it was written.
    pub sql: String,
    /// Its columns when it was made: name, and what the maker calls the type.
    pub columns: Vec<(String, String)>,
}

impl View {
    /// What counts of it where views are bounded.
    pub(crate) fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(|(name, kind)| name.len() + kind.len()).sum();
        self.sql.len() + columns
    }
}

impl Catalog {
    /// The view of a name.
    pub fn view(&self, database: DatabaseId, name: &str) -> Option<&Arc<View>> {
        self.views.get(self.by_name.get(&database)?.get(name)?)
    }

    /// The view of an id.
    pub fn view_by_id(&self, id: TableId) -> Option<&Arc<View>> {
        self.views.get(&id)
    }

    /// The views of a database, by name.
    pub fn views(&self, database: DatabaseId) -> impl Iterator<Item = &Arc<View>> {
        self.by_name.get(&database).into_iter().flatten().filter_map(|(_, id)| self.views.get(id))
    }

    /// Every view, by id.
    pub fn all_views(&self) -> impl Iterator<Item = &Arc<View>> {
        self.views.values()
    }

    /// A view exists, or is another one of the same id from now on.
    pub(super) fn apply_view(&mut self, view: &Arc<View>) -> Result<(), String> {
        self.next_table = self.next_table.max(view.id.0 + 1);
        if !self.databases.values().any(|known| known.id == view.database) {
            let reason =
                format!("view {:?} belongs to database id {}, which does not exist", view.name, view.database.0);
            return Err(reason);
        }
        if self.tables.contains_key(&view.id) {
            return Err(format!("id {} stands for a table and for view {:?}", view.id.0, view.name));
        }
        let names = self.by_name.entry(view.database).or_default();
        if names.get(&view.name).is_some_and(|known| *known != view.id) {
            return Err(format!("view {:?} has the name of another table or view", view.name));
        }
        let before = self.views.get(&view.id);
        if let Some(before) = before {
            if before.database != view.database {
                return Err(format!("view id {} belongs to two databases", view.id.0));
            }
            names.remove(&before.name);
        }
        names.insert(view.name.clone(), view.id);
        self.views.insert(view.id, Arc::clone(view));
        Ok(())
    }

    pub(super) fn apply_drop_view(&mut self, id: TableId) {
        if let Some(view) = self.views.remove(&id)
            && let Some(names) = self.by_name.get_mut(&view.database)
        {
            names.remove(&view.name);
        }
    }
}
