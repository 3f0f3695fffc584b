//! A correlated subquery that no join can stand for, computed for each row of the outer query.
//!
//! The outer row's values take the places of the references to them, and what is left is a query like any other: it is
//! optimized, planned and run. Rows of the same values share one answer.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{
    Column, DFSchema, DFSchemaRef, Result as DfResult, ScalarValue, assert_or_internal_err, internal_err, plan_err,
};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr, PlanProperties, collect,
};
use futures::{StreamExt, TryStreamExt};

use crate::error::{QueryError, QueryErrorKind};

/// So many answers are remembered before all are forgotten.
const ANSWERS_MAX: usize = 16 * 1024;

/// The rows of the input, each with the value of a subquery behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Apply {
    input: LogicalPlan,
    /// Of one column.
    subquery: Arc<LogicalPlan>,
    /// The columns of the input that it refers to.
    outer: Vec<Column>,
    name: String,
    schema: DFSchemaRef,
}

impl Apply {
    pub(crate) fn new(input: LogicalPlan, subquery: Arc<LogicalPlan>, name: String) -> DfResult<Self> {
        let mut outer = Vec::new();
        for expr in subquery.all_out_ref_exprs() {
            if let Expr::OuterReferenceColumn(_, column) = expr
                && input.schema().has_column(&column)
                && !outer.contains(&column)
            {
                outer.push(column);
            }
        }
        let Some(field) = subquery.schema().fields().first() else {
            return plan_err!("a scalar subquery needs a column");
        };
        let field = field.as_ref().clone().with_name(&name).with_nullable(true);
        let columns = input.schema().iter().map(|(of, field)| (of.cloned(), Arc::clone(field)));
        let columns = columns.chain([(None, Arc::new(field))]).collect();
        let schema = DFSchema::new_with_metadata(columns, input.schema().metadata().clone())?;
        Ok(Self { input, subquery, outer, name, schema: Arc::new(schema) })
    }
}

impl Hash for Apply {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.subquery.hash(state);
        self.name.hash(state);
    }
}

impl PartialOrd for Apply {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self == other).then_some(std::cmp::Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Apply {
    fn name(&self) -> &str {
        "Apply"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.outer.iter().cloned().map(Expr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outer: Vec<_> = self.outer.iter().map(Column::flat_name).collect();
        write!(f, "Apply: a subquery for each of [{}]", outer.join(", "))
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let [input] = inputs.as_slice() else { return internal_err!("Apply has one input") };
        Self::new(input.clone(), Arc::clone(&self.subquery), self.name.clone())
    }
}

/// The operator of a node over its input.
pub(crate) fn planned(
    apply: &Apply,
    input: &Arc<dyn ExecutionPlan>,
    session: &dyn Session,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
        return internal_err!("Apply needs a session of ours");
    };
    Ok(Arc::new(ApplyExec::new(apply, Arc::clone(input), Arc::new(state.clone()))?))
}

/// What does not change from row to row.
#[derive(Debug)]
struct Work {
    subquery: Arc<LogicalPlan>,
    /// Each with its place in the input.
    outer: Vec<(Column, usize)>,
    state: Arc<SessionState>,
    schema: SchemaRef,
}

/// [`Apply`] as it runs.
#[derive(Debug)]
struct ApplyExec {
    input: Arc<dyn ExecutionPlan>,
    work: Arc<Work>,
    properties: Arc<PlanProperties>,
}

impl ApplyExec {
    fn new(apply: &Apply, input: Arc<dyn ExecutionPlan>, state: Arc<SessionState>) -> DfResult<Self> {
        let place = |column: &Column| Ok((column.clone(), apply.input.schema().index_of_column(column)?));
        let outer = apply.outer.iter().map(place).collect::<DfResult<_>>()?;
        let of_input = input.schema();
        let columns = of_input.fields().iter().cloned().chain(apply.schema.fields().last().cloned());
        let schema = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
        let work = Arc::new(Work { subquery: Arc::clone(&apply.subquery), outer, state, schema });
        Ok(Self::over(input, work))
    }

    fn over(input: Arc<dyn ExecutionPlan>, work: Arc<Work>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&work.schema)),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, work, properties: Arc::new(properties) }
    }
}

impl DisplayAs for ApplyExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApplyExec: columns={}", self.work.outer.len())
    }
}

impl ExecutionPlan for ApplyExec {
    fn name(&self) -> &str {
        "ApplyExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        assert_or_internal_err!(children.len() == 1, "Apply has one input");
        let input = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::over(input, Arc::clone(&self.work))))
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&task))?;
        let (work, schema) = (Arc::clone(&self.work), Arc::clone(&self.work.schema));
        let start = (input, work, HashMap::new(), task);
        let batches = futures::stream::try_unfold(start, |(mut input, work, mut answers, task)| async move {
            let Some(batch) = input.next().await.transpose()? else { return Ok(None) };
            let batch = work.batch(batch, &mut answers, &task).await?;
            Ok(Some((batch, (input, work, answers, task))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.into_stream().boxed())))
    }
}

/// A subquery below this one, which may refer to less than before.
fn resolved(expr: Expr) -> Expr {
    let again = |of: Subquery| Subquery { outer_ref_columns: of.subquery.all_out_ref_exprs(), ..of };
    match expr {
        Expr::ScalarSubquery(of) => Expr::ScalarSubquery(again(of)),
        Expr::Exists(of) => Expr::Exists(Exists { subquery: again(of.subquery), ..of }),
        Expr::InSubquery(of) => Expr::InSubquery(InSubquery { subquery: again(of.subquery), ..of }),
        other => other,
    }
}

/// What subqueries answered, by the values of their outer columns.
type Answers = HashMap<Vec<ScalarValue>, ScalarValue>;

impl Work {
    async fn batch(&self, batch: RecordBatch, answers: &mut Answers, task: &Arc<TaskContext>) -> DfResult<RecordBatch> {
        let mut values = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let value = |(_, at): &(Column, usize)| ScalarValue::try_from_array(batch.column(*at), row);
            let key = self.outer.iter().map(value).collect::<DfResult<Vec<_>>>()?;
            let answer = match answers.get(&key) {
                Some(answer) => answer.clone(),
                None => {
                    let answer = self.answer(&key, task).await?;
                    if ANSWERS_MAX <= answers.len() {
                        answers.clear();
                    }
                    answers.insert(key, answer.clone());
                    answer
                }
            };
            values.push(answer);
        }
        let field = self.schema.fields().last().map(|field| field.data_type().clone());
        let Some(data_type) = field else { return internal_err!("Apply has a column of its own") };
        let array: ArrayRef = match values.is_empty() {
            true => arrow_array::new_empty_array(&data_type),
            false => ScalarValue::iter_to_array(values)?,
        };
        let columns = batch.columns().iter().cloned().chain([array]).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// The value of the subquery for one row; null where it has no row.
    async fn answer(&self, values: &[ScalarValue], task: &Arc<TaskContext>) -> DfResult<ScalarValue> {
        let plan = self.state.optimize(&self.substituted(values)?)?;
        let plan = self.state.query_planner().create_physical_plan(&plan, self.state.as_ref()).await?;
        let batches = collect(plan, Arc::clone(task)).await?;
        let Some(field) = self.schema.fields().last() else { return internal_err!("Apply has a column of its own") };
        let mut found = batches.iter().filter(|batch| 0 < batch.num_rows());
        let Some(batch) = found.next() else { return ScalarValue::try_from(field.data_type()) };
        if 1 < batch.num_rows() || found.next().is_some() {
            let message = "more than one row returned by a subquery used as an expression";
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("21000").into());
        }
        ScalarValue::try_from_array(batch.column(0), 0)?.cast_to(field.data_type())
    }

    /// The subquery with values in the places of the outer columns.
    fn substituted(&self, values: &[ScalarValue]) -> DfResult<LogicalPlan> {
        let of = |expr: Expr| match &expr {
            Expr::OuterReferenceColumn(field, column) => {
                let value = self.outer.iter().zip(values).find(|((of, _), _)| of == column);
                match value {
                    Some((_, value)) => {
                        let metadata = FieldMetadata::from(field.metadata().clone());
                        Transformed::yes(Expr::Literal(value.clone(), Some(metadata)))
                    }
                    None => Transformed::no(expr),
                }
            }
            _ => Transformed::no(resolved(expr)),
        };
        let plan = (*self.subquery).clone().transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            let replaced = node.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expr.transform_up(|expr| Ok(of(expr)))?.update_data(|expr| name.restore(expr)))
            })?;
            replaced.map_data(LogicalPlan::recompute_schema)?.map_data(|node| match node {
                // A relation that depends on nothing outside any more is like any other.
                LogicalPlan::Subquery(of) if of.subquery.all_out_ref_exprs().is_empty() => {
                    Ok(Arc::unwrap_or_clone(of.subquery))
                }
                other => Ok(other),
            })
        })?;
        Ok(plan.data)
    }
}
