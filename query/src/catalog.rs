//! The names that a statement can reach: every database is a catalog with the schemas `public` (also called `iox`),
//! `system` and `information_schema`. All of it is of one snapshot.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result as DfResult;
use marigram_storage::schema::DatabaseId;

use crate::context::{Context, schemas};
use crate::information::Information;
use crate::system::System;
use crate::table::SnapshotTable;

/// All databases.
#[derive(Debug)]
pub(crate) struct Databases {
    pub(crate) context: Arc<Context>,
}

/// One database.
#[derive(Debug)]
struct Database {
    context: Arc<Context>,
    id: DatabaseId,
    name: String,
}

/// The tables of one database.
#[derive(Debug)]
struct Tables {
    context: Arc<Context>,
    database: DatabaseId,
}

impl CatalogProviderList for Databases {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        self.context.snapshot.catalog().databases().map(|database| database.name.clone()).collect()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let database = self.context.snapshot.catalog().database(name)?;
        Some(Arc::new(Database { context: Arc::clone(&self.context), id: database.id, name: name.to_owned() }))
    }
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        schemas::ALL.map(str::to_owned).to_vec()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let context = Arc::clone(&self.context);
        Some(match name {
            schemas::PUBLIC | schemas::IOX => Arc::new(Tables { context, database: self.id }),
            schemas::SYSTEM => Arc::new(System::new(context, self.id)),
            schemas::INFORMATION => Arc::new(Information::new(context, self.id, &self.name)),
            _ => return None,
        })
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.context.snapshot.catalog().tables(self.database).map(|table| table.name.clone()).collect()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let table = self.context.snapshot.catalog().table(self.database, name);
        Ok(table.map(|table| {
            Arc::new(SnapshotTable::new(Arc::clone(&self.context), Arc::clone(table))) as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.context.snapshot.catalog().table(self.database, name).is_some()
    }
}
