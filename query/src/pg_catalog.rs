//! `pg_catalog`: PostgreSQL's catalog of the database that a statement reads, made of ours while it is read.
//!
//! Columns and types are PostgreSQL 15's ([`relation`], [`types`]); [`objects`] numbers what we have, [`rows`] shows it.
//! [`functions`] answer questions about it, [`casts`] read and write the types that only stand here, and
//! `statement/postgres.rs` rewrites what clients write and DataFusion does not plan. Nothing here looks at the text of a query.

mod casts;
mod definitions;
mod functions;
mod names;
mod objects;
mod procedures;
mod relation;
mod rows;
mod settings;
mod types;

use std::fmt;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use marigram_storage::schema::DatabaseId;

use crate::context::Context;
use crate::error::QueryError;
use objects::Objects;
use relation::{Relation, Rows};

pub(crate) use casts::{Casts, Literals, TypeNames, written};
pub(crate) use definitions::quote_ident;
pub(crate) use functions::{CatalogOptions, functions_of};
pub(crate) use objects::{KeyColumns, keys_of};
pub use types::PG_TYPE;
pub(crate) use types::titles;

/// Whether `pg_catalog` has a relation of this name.
pub(crate) fn is_relation(name: &str) -> bool {
    relation::by_name(name).is_some()
}

/// The objects of the current database.
fn objects_of(context: &Context) -> Result<Objects<'_>, QueryError> {
    let name = context.database.as_str();
    let database = context.database_named(name).ok_or_else(|| QueryError::unknown_database(name))?;
    Ok(Objects { context, database: database.id, database_name: name })
}

/// The schema.
#[derive(Debug)]
pub(crate) struct PgCatalog {
    context: Arc<Context>,
    database: DatabaseId,
    database_name: String,
}

impl PgCatalog {
    pub(crate) fn new(context: Arc<Context>, database: DatabaseId, database_name: &str) -> Self {
        Self { context, database, database_name: database_name.to_owned() }
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        relation::all().into_iter().map(|relation| relation.name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        Ok(relation::by_name(name).map(|relation| {
            let (context, database_name) = (Arc::clone(&self.context), self.database_name.clone());
            let table = CatalogTable { context, database: self.database, database_name, relation };
            Arc::new(table) as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        is_relation(name)
    }
}

/// One relation at a snapshot.
struct CatalogTable {
    context: Arc<Context>,
    database: DatabaseId,
    database_name: String,
    relation: &'static Relation,
}

impl fmt::Debug for CatalogTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogTable").field("name", &self.relation.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for CatalogTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.relation.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.relation.columns.len()).collect();
        let projection = projection.unwrap_or(&all);
        let objects = Objects { context: &self.context, database: self.database, database_name: &self.database_name };
        let mut rows = Rows::new(self.relation, projection)?;
        rows::fill(&objects, self.relation, filters, &mut rows)?;
        let batch = rows.finish()?;
        let schema = batch.schema();
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None)?)
    }
}
