//! The logical node.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_schema::Field;
use datafusion::common::{DFSchema, DFSchemaRef, Result as DfResult, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, UserDefinedLogicalNodeCore};

/// A left and a right row belong together where keys are equal, and times are as the operator says.
#[derive(Clone, Debug)]
pub(crate) struct AsofJoin {
    pub(crate) left: Arc<LogicalPlan>,
    pub(crate) right: Arc<LogicalPlan>,
    pub(crate) keys: Vec<(Expr, Expr)>,
    pub(crate) times: (Expr, Expr),
    /// Between the left and the right time: `>=`, `>`, `<=` or `<`.
    pub(crate) operator: Operator,
    schema: DFSchemaRef,
}

impl AsofJoin {
    pub(crate) fn try_new(
        left: Arc<LogicalPlan>,
        right: Arc<LogicalPlan>,
        keys: Vec<(Expr, Expr)>,
        times: (Expr, Expr),
        operator: Operator,
    ) -> DfResult<Self> {
        let of_left = left.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let of_right = right
            .schema()
            .iter()
            .map(|(qualifier, field)| (qualifier.cloned(), Arc::new(Field::clone(field).with_nullable(true))));
        let fields = of_left.chain(of_right).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, left.schema().metadata().clone())?);
        Ok(Self { left, right, keys, times, operator, schema })
    }
}

impl PartialEq for AsofJoin {
    fn eq(&self, other: &Self) -> bool {
        (&self.left, &self.right, self.operator) == (&other.left, &other.right, other.operator)
            && (&self.keys, &self.times) == (&other.keys, &other.times)
    }
}

impl Eq for AsofJoin {}

impl PartialOrd for AsofJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for AsofJoin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.left, &self.right, &self.keys, &self.times, self.operator).hash(state);
    }
}

impl UserDefinedLogicalNodeCore for AsofJoin {
    fn name(&self) -> &str {
        "MarigramAsofJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// Left and right in turn, the times last.
    fn expressions(&self) -> Vec<Expr> {
        let pairs = self.keys.iter().chain([&self.times]);
        pairs.flat_map(|(left, right)| [left.clone(), right.clone()]).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MarigramAsofJoin: {} {} {}", self.times.0, self.operator, self.times.1)?;
        self.keys.iter().try_for_each(|(left, right)| write!(f, ", {left} = {right}"))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let Ok([left, right]) = <[LogicalPlan; 2]>::try_from(inputs) else {
            return internal_err!("an ASOF JOIN has two sides");
        };
        let mut exprs = exprs.into_iter();
        let mut pairs = Vec::with_capacity(self.keys.len() + 1);
        while let (Some(left), Some(right)) = (exprs.next(), exprs.next()) {
            pairs.push((left, right));
        }
        let Some(times) = pairs.pop().filter(|_| pairs.len() == self.keys.len()) else {
            return internal_err!("expressions of an ASOF JOIN are lost");
        };
        Self::try_new(Arc::new(left), Arc::new(right), pairs, times, self.operator)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let of_left = self.left.schema().fields().len();
        let (left, right): (Vec<usize>, Vec<usize>) = output_columns.iter().partition(|column| **column < of_left);
        Some(vec![left, right.into_iter().map(|column| column - of_left).collect()])
    }
}
