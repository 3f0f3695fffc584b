//! Joins that can be stopped.
//!
//! DataFusion gives the thread back between the batches of a leaf. A join makes many batches of one, so each join gives it
//! back between its own, too. A nested-loop join may go through millions of pairs before it has a batch at all: its
//! condition fails once the statement is interrupted.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Schema};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::running::Entry;

/// Makes the joins of a plan stop with their statement.
pub(crate) fn interruptible_joins(
    plan: Arc<dyn ExecutionPlan>,
    entry: &Arc<Entry>,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let wrap = |node: Arc<dyn ExecutionPlan>| -> DfResult<_> {
        let node = match node.downcast_ref::<NestedLoopJoinExec>() {
            Some(join) => Arc::new(interruptible(join, entry)?),
            None if node.is::<CrossJoinExec>() || node.is::<HashJoinExec>() => node,
            None => return Ok(Transformed::no(node)),
        };
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>))
    };
    plan.transform_up(wrap).map(|plan| plan.data)
}

fn interruptible(join: &NestedLoopJoinExec, entry: &Arc<Entry>) -> DfResult<NestedLoopJoinExec> {
    let filter = join.filter().map(|filter| {
        let condition = Interruptible { condition: Arc::clone(filter.expression()), entry: Arc::clone(entry) };
        JoinFilter::new(Arc::new(condition), filter.column_indices().to_vec(), Arc::clone(filter.schema()))
    });
    NestedLoopJoinExecBuilder::new(Arc::clone(join.left()), Arc::clone(join.right()), *join.join_type())
        .with_filter(filter)
        .with_projection_ref(join.projection().clone())
        .build()
}

/// A condition that fails once its statement is interrupted.
#[derive(Debug)]
struct Interruptible {
    condition: Arc<dyn PhysicalExpr>,
    entry: Arc<Entry>,
}

impl PartialEq for Interruptible {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition) && self.entry.id == other.entry.id
    }
}

impl Eq for Interruptible {}

impl Hash for Interruptible {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl fmt::Display for Interruptible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl PhysicalExpr for Interruptible {
    fn data_type(&self, schema: &Schema) -> DfResult<DataType> {
        self.condition.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> DfResult<bool> {
        self.condition.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        self.entry.check()?;
        self.condition.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        let condition = children.pop().unwrap_or_else(|| Arc::clone(&self.condition));
        Ok(Arc::new(Self { condition, entry: Arc::clone(&self.entry) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}
