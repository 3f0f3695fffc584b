//! The names that a statement can reach: every database is a catalog with the schemas `public` (also called `iox`),
//! `system`, `information_schema` and `pg_catalog`. All of it is of one snapshot, and only what the principal may read: no plan
//! gets at a table but through here.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result as DfResult;
use marigram_storage::schema::{DatabaseId, TableId};

use crate::context::{Context, schemas};
use crate::information::Information;
use crate::pg_catalog::PgCatalog;
use crate::system::System;
use crate::table::SnapshotTable;
use crate::views::Views;

/// All databases.
#[derive(Debug)]
pub(crate) struct Databases {
    pub(crate) context: Arc<Context>,
    /// This table shows all that its keys hold.
    pub(crate) naming: Option<TableId>,
    pub(crate) views: Views,
}

/// One database.
#[derive(Debug)]
struct Database {
    context: Arc<Context>,
    id: DatabaseId,
    name: String,
    naming: Option<TableId>,
    views: Views,
}

/// The tables and views of one database.
#[derive(Debug)]
struct Tables {
    context: Arc<Context>,
    database: DatabaseId,
    naming: Option<TableId>,
    views: Views,
}

impl CatalogProviderList for Databases {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        self.context.databases().map(|database| database.name.clone()).collect()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let database = self.context.database_named(name)?;
        let (context, id, name, naming) = (Arc::clone(&self.context), database.id, name.to_owned(), self.naming);
        Some(Arc::new(Database { context, id, name, naming, views: self.views.clone() }))
    }
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        schemas::ALL.map(str::to_owned).to_vec()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let context = Arc::clone(&self.context);
        Some(match name {
            schemas::PUBLIC | schemas::IOX => {
                Arc::new(Tables { context, database: self.id, naming: self.naming, views: self.views.clone() })
            }
            schemas::SYSTEM => Arc::new(System::new(context, self.id)),
            schemas::INFORMATION => Arc::new(Information::new(context, self.id, &self.name)),
            schemas::CATALOG => Arc::new(PgCatalog::new(context, self.id, &self.name)),
            _ => return None,
        })
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        let views = self.context.views_in(self.database).map(|view| view.name.clone());
        self.context.tables_in(self.database).map(|table| table.name.clone()).chain(views).collect()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        if let Some(view) = self.context.view_in(self.database, name) {
            return self.views.expand(&self.context, view).await.map(Some);
        }
        let table = self.context.table_in(self.database, name);
        Ok(table.map(|table| {
            let (context, table) = (Arc::clone(&self.context), Arc::clone(table));
            let names = self.naming == Some(table.id);
            let shown = if names { SnapshotTable::naming(context, table) } else { SnapshotTable::new(context, table) };
            Arc::new(shown) as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.context.table_in(self.database, name).is_some() || self.context.view_in(self.database, name).is_some()
    }
}
