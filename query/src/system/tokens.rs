//! `system.tokens`: who may do what. Nothing that proves it is shown.

use super::count;
use crate::error::QueryError;
use crate::grid::Cell;
use crate::principal::Action;
use crate::virtual_table::Source;

/// Those of which every grant is about something that the principal administers, as they are now.
pub(super) fn tokens(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let context = source.context;
    if !context.principal.is_some_admin() {
        context.principal.may_everywhere(Action::Administer)?;
    }
    let (catalog, now_ns) = (context.store.catalog(), context.now_ns);
    let ours = catalog.tokens().filter(|token| context.principal.administers(&token.grants));
    let rows = ours.map(|token| {
        let grants =
            token.grants.iter().map(|grant| format!("{}:{}", grant.database.as_deref().unwrap_or("*"), grant.rights));
        vec![
            count(token.id.0),
            Cell::text(&token.name),
            Cell::Time(token.created_ns),
            token.expires_ns.map_or(Cell::Null, Cell::Time),
            Cell::text(if token.is_expired(now_ns) { "yes" } else { "no" }),
            Cell::text(grants.collect::<Vec<_>>().join(", ")),
        ]
    });
    Ok(rows.collect())
}
