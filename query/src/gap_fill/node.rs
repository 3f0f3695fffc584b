//! The logical node.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_schema::{Field, FieldRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DfResult, TableReference, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// How gaps of a column are filled, where that is not NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fill {
    Locf,
    Interpolate,
}

/// One end of what is filled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bound {
    pub(crate) at: Expr,
    /// Whether it is compared with by `>` or `<=`: then it is meant one ns later.
    pub(crate) is_next: bool,
}

/// Rows of groups, and those of buckets without any.
#[derive(Clone, Debug)]
pub(crate) struct GapFill {
    pub(crate) input: Arc<LogicalPlan>,
    pub(crate) bucket: Column,
    /// What `time_bucket` was given beside the time.
    pub(crate) division: Vec<Expr>,
    pub(crate) keys: Vec<Column>,
    pub(crate) fills: Vec<(Column, Fill)>,
    /// The latest is meant.
    pub(crate) starts: Vec<Bound>,
    /// The earliest is meant.
    pub(crate) finishes: Vec<Bound>,
    schema: DFSchemaRef,
}

impl GapFill {
    pub(crate) fn try_new(
        input: Arc<LogicalPlan>,
        bucket: Column,
        division: Vec<Expr>,
        keys: Vec<Column>,
        (starts, finishes): (Vec<Bound>, Vec<Bound>),
    ) -> DfResult<Self> {
        let schema = schema(&input, &bucket, &keys)?;
        Ok(Self { input, bucket, division, keys, fills: Vec::new(), starts, finishes, schema })
    }

    /// The same over another input, which has its columns and may have more.
    pub(crate) fn over(&self, input: LogicalPlan) -> DfResult<Self> {
        let input = Arc::new(input);
        let schema = schema(&input, &self.bucket, &self.keys)?;
        Ok(Self { input, schema, ..self.clone() })
    }

    fn is_like(&self, other: &Self) -> bool {
        let parts = |node: &Self| (node.bucket.clone(), node.keys.clone(), node.fills.clone(), node.expressions());
        self.input == other.input && parts(self) == parts(other)
    }
}

/// Columns of the input; all but keys and buckets may be NULL.
fn schema(input: &LogicalPlan, bucket: &Column, keys: &[Column]) -> DfResult<DFSchemaRef> {
    let input = input.schema();
    let is_kept = |qualifier: Option<&TableReference>, field: &FieldRef| {
        let column = Column::new(qualifier.cloned(), field.name());
        column == *bucket || keys.contains(&column)
    };
    let fields = input.iter().map(|(qualifier, field)| {
        let field = match is_kept(qualifier, field) {
            true => Arc::clone(field),
            false => Arc::new(Field::clone(field).with_nullable(true)),
        };
        (qualifier.cloned(), field)
    });
    Ok(Arc::new(DFSchema::new_with_metadata(fields.collect(), input.metadata().clone())?))
}

impl PartialEq for GapFill {
    fn eq(&self, other: &Self) -> bool {
        self.is_like(other)
    }
}

impl Eq for GapFill {}

impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for GapFill {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.fills.hash(state);
        self.expressions().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &str {
        "MarigramGapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// Columns, the division, starts, finishes.
    fn expressions(&self) -> Vec<Expr> {
        let columns =
            std::iter::once(&self.bucket).chain(&self.keys).chain(self.fills.iter().map(|(column, _)| column));
        let bounds = self.starts.iter().chain(&self.finishes).map(|bound| bound.at.clone());
        columns.map(|column| Expr::Column(column.clone())).chain(self.division.iter().cloned()).chain(bounds).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, columns: &mut dyn Iterator<Item = String>| {
            write!(f, "[{}]", columns.collect::<Vec<_>>().join(", "))
        };
        write!(f, "MarigramGapFill: {}, keys=", self.bucket)?;
        list(f, &mut self.keys.iter().map(|key| key.to_string()))?;
        write!(f, ", fills=")?;
        list(f, &mut self.fills.iter().map(|(column, fill)| format!("{fill:?} {column}")))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let Some(input) = inputs.pop() else { return internal_err!("gaps of no input") };
        let columns = 1 + self.keys.len() + self.fills.len();
        let bounds = self.division.len() + self.starts.len() + self.finishes.len();
        if exprs.len() != columns + bounds {
            return internal_err!("expressions of gaps are lost");
        }
        let mut node = self.over(input)?;
        let mut exprs = exprs.into_iter().skip(columns);
        node.division = exprs.by_ref().take(self.division.len()).collect();
        for (bound, at) in node.starts.iter_mut().chain(&mut node.finishes).zip(exprs) {
            bound.at = at;
        }
        Ok(node)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
