//! Tables that exist only while they are read: the schemas `system` and `information_schema`.

use std::fmt;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use marigram_storage::schema::DatabaseId;

use crate::context::Context;
use crate::error::QueryError;
use crate::grid::{self, Cell, Kind};

/// What a definition makes rows from.
pub(crate) struct Source<'a> {
    pub(crate) context: &'a Context,
    /// The database in whose schema the table stands; what belongs to others is not shown.
    pub(crate) database: DatabaseId,
    pub(crate) database_name: &'a str,
    /// The conditions of the scan, for hints only: they are applied above it.
    pub(crate) filters: &'a [Expr],
}

type Rows = Result<Vec<Vec<Cell>>, QueryError>;

/// Name, columns and rows of one virtual table.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    pub(crate) rows: fn(&Source<'_>) -> Rows,
}

/// A definition at a snapshot.
pub(crate) struct VirtualTable {
    context: Arc<Context>,
    database: DatabaseId,
    database_name: String,
    definition: &'static Definition,
}

impl VirtualTable {
    pub(crate) fn new(
        context: Arc<Context>,
        database: DatabaseId,
        database_name: &str,
        definition: &'static Definition,
    ) -> Self {
        Self { context, database, database_name: database_name.to_owned(), definition }
    }
}

impl fmt::Debug for VirtualTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualTable").field("name", &self.definition.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for VirtualTable {
    fn schema(&self) -> SchemaRef {
        grid::schema(self.definition.columns)
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
        let source =
            Source { context: &self.context, database: self.database, database_name: &self.database_name, filters };
        let rows = (self.definition.rows)(&source)?;
        let batch = grid::batch(self.definition.columns, &rows)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema(), projection.cloned())?)
    }
}
