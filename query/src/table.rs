//! A table as DataFusion sees it: columns, and which conditions it takes over.

use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column as DfColumn, DFSchema, Result as DfResult};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use marigram_storage::schema::{Column, ColumnId, ColumnKind, Table};
use marigram_storage::time::TimeRange;
use marigram_storage::{ScanRequest, TagFilter, arrow_type};

use crate::context::Context;
use crate::pushdown;
use crate::scan::ScanExec;

/// One user table at one snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotTable {
    context: Arc<Context>,
    table: Arc<Table>,
    columns: Vec<Column>,
    schema: SchemaRef,
}

/// The columns that users see: not those with reserved ids.
pub(crate) fn visible(table: &Table) -> impl Iterator<Item = &Column> {
    table.columns.iter().filter(|column| column.id == ColumnId::TIME || ColumnId::FIRST_USER <= column.id)
}

/// The tags that series keys are made of, in the order of their ids. Those that were dropped have names that no column has.
pub(crate) fn key_tags(table: &Table) -> Vec<Column> {
    let mut tags: Vec<Column> = table.tags().into_iter().cloned().collect();
    for hidden in table.hidden.iter().filter(|column| column.kind == ColumnKind::Tag) {
        let mut name = format!("dropped tag {}", hidden.id.0);
        while table.column(&name).is_some() {
            name.push('_');
        }
        tags.push(Column { name, ..hidden.clone() });
    }
    tags.sort_by_key(|column| column.id);
    tags
}

impl SnapshotTable {
    /// As users see it.
    pub(crate) fn new(context: Arc<Context>, table: Arc<Table>) -> Self {
        let columns = visible(&table).cloned().collect();
        Self::with_columns(context, table, columns)
    }

    /// With the tags that were dropped, as [`key_tags`] names them: for who must name keys.
    pub(crate) fn naming(context: Arc<Context>, table: Arc<Table>) -> Self {
        let is_dropped = |column: &Column| table.column_by_id(column.id).is_none();
        let columns = visible(&table).cloned().chain(key_tags(&table).into_iter().filter(is_dropped)).collect();
        Self::with_columns(context, table, columns)
    }

    fn with_columns(context: Arc<Context>, table: Arc<Table>, columns: Vec<Column>) -> Self {
        let field =
            |column: &Column| Field::new(&column.name, arrow_type(column.kind), column.kind != ColumnKind::Time);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        Self { context, table, columns, schema }
    }

    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// A scan of the columns at `wanted`.
    fn open(
        &self,
        session: &dyn Session,
        wanted: &[usize],
        time: TimeRange,
        tags: Vec<TagFilter>,
        fetch: Option<usize>,
    ) -> DfResult<ScanExec> {
        let columns = wanted.iter().filter_map(|at| self.columns.get(*at)).map(|column| column.id).collect();
        let schema = Arc::new(self.schema.project(wanted)?);
        let request = ScanRequest { columns, time, tags, parts_max: session.config().target_partitions() };
        Ok(ScanExec::open(Arc::clone(&self.context), Arc::clone(&self.table), request, schema, fetch)?)
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match pushdown::is_exact(&self.table, filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = match projection {
            Some(projection) => projection.clone(),
            None => (0..self.columns.len()).collect(),
        };
        let conditions = pushdown::conditions(&self.table, filters);
        let Some(time) = conditions.time else {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&wanted)?))));
        };
        // A condition that we took over may have been simplified since into one that the storage has no word for.
        // Nobody else applies it any more.
        let rest = conjunction(filters.iter().filter(|filter| !pushdown::is_exact(&self.table, filter)).cloned());
        let Some(rest) = rest else {
            return Ok(Arc::new(self.open(session, &wanted, time, conditions.tags, limit)?));
        };
        let mut read = wanted.clone();
        for column in rest.column_refs() {
            let at = self.schema.index_of(&column.name)?;
            if !read.contains(&at) {
                read.push(at);
            }
        }
        let scan = self.open(session, &read, time, conditions.tags, None)?;
        let schema = DFSchema::try_from(scan.schema())?;
        let rest = rest.transform_up(|expr| Ok(unqualified(expr)))?.data;
        let predicate = session.create_physical_expr(rest, &schema)?;
        let filter = FilterExecBuilder::new(predicate, Arc::new(scan))
            .apply_projection(Some((0..wanted.len()).collect()))?
            .with_fetch(limit)
            .build()?;
        Ok(Arc::new(filter))
    }
}

/// A scan's filters name its columns with the table before them.
fn unqualified(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::Column(column) if column.relation.is_some() => {
            Transformed::yes(Expr::Column(DfColumn::new_unqualified(column.name)))
        }
        other => Transformed::no(other),
    }
}
