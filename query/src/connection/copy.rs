//! `COPY`: a query whose rows the caller writes, or a table that takes the rows which the caller reads.

use super::{Answer, Connection};
use crate::engine::{Ahead, QueryEngine};
use crate::error::QueryError;
use crate::request::{Request, Response};
use crate::statement::command::{Copy, Source, whole_table};
use crate::statement::{Literals, Load, Statement, TableName};
use arrow_array::RecordBatch;
use arrow_schema::DataType;
use futures::FutureExt;
use futures::future::BoxFuture;

/// Takes rows for a table. Each batch is stored whole or not at all, by itself.
pub struct CopySink {
    engine: QueryEngine,
    request: Request,
    table: TableName,
    names: Vec<String>,
    columns: Vec<(String, DataType)>,
}

impl CopySink {
    /// Name and type of each column of a batch. Times may come as text.
    pub fn columns(&self) -> &[(String, DataType)] {
        &self.columns
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table.table
    }

    /// Stores a batch, durably, and says how many rows it was.
    pub fn store(&self, batch: RecordBatch) -> BoxFuture<'_, Result<u64, QueryError>> {
        let load = Load { table: self.table.clone(), columns: self.names.clone(), batch };
        let ahead = Ahead { statement: Some(Statement::Load(load)), ..Ahead::default() };
        async move {
            match self.engine.start(self.request.clone(), ahead).await? {
                Response::Count(Some(count)) => Ok(count),
                _ => Err(QueryError::internal("a copy was not counted")),
            }
        }
        .boxed()
    }
}

impl Connection {
    pub(super) async fn copy(&mut self, copy: &Copy, text: &str) -> Result<Answer, QueryError> {
        if copy.is_in {
            return self.copy_in(copy, text);
        }
        let query = match &copy.source {
            Source::Query(query) => query.clone(),
            Source::Table { name, columns } => whole_table(name, columns)?,
        };
        match self.run(Statement::Query(query).completed(&Literals::new())?, text).await? {
            Answer::Rows { schema, stream, .. } => Ok(Answer::CopyOut { schema, stream, format: copy.format.clone() }),
            other => Ok(other),
        }
    }

    fn copy_in(&mut self, copy: &Copy, text: &str) -> Result<Answer, QueryError> {
        let Source::Table { name, columns } = &copy.source else {
            return Err(QueryError::syntax("syntax error: COPY … FROM needs a table"));
        };
        self.check_write("COPY FROM")?;
        let (request, _) = self.request(Statement::Command(crate::statement::Command::Copy(copy.clone())), text);
        let types = self.engine.columns_of(&request, name, columns)?;
        self.note_run(true);
        let sink = CopySink {
            engine: self.engine.clone(),
            request,
            table: name.clone(),
            names: columns.clone(),
            columns: types,
        };
        Ok(Answer::CopyIn { sink: Box::new(sink), format: copy.format.clone() })
    }
}
