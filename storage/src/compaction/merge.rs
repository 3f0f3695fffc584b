//! Writes segments as one, a column at a time.
//!
//! For each stripe a [`Planner`] reads keys and times and says which rows go out. Then each field is read from front to back,
//! a page of each input at a time, gathered in that order and encoded, page by page. So beside the plan of a stripe memory
//! holds one decoded page per input, however many columns there are and however long they are.
//!
//! The bytes are those that a [`crate::merge::Merge`] of whole rows gives; tests hold one against the other.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::codec::{PageBuf, ValuesRef};
use crate::error::Result;
use crate::memory::{Held, HeldPart};
use crate::merge::plan::{Item, Place, Planner, StripePlan};
use crate::merge::{ScanStats, has_field, read};
use crate::placement::{Reader, Segment};
use crate::rows::Presence;
use crate::schema::{ColumnId, FieldType};
use crate::segment::{PageRows, RowSet, SegmentWriter, Sink, StripeSource};
use crate::values::Values;

use super::PartJob;
use super::control::Control;

/// Writes the rows of a part.
pub(crate) fn merge<S: Sink + ?Sized>(
    writer: &mut SegmentWriter<'_, S>,
    part: &PartJob,
    rows_max: usize,
    control: &Control,
    held: &Held,
) -> Result<()> {
    held.set(HeldPart::Writer, writer.memory_bytes())?;
    let stats = Arc::new(ScanStats::default());
    let mut planner = Planner::new(part.table.mode, &part.segments, &part.tombstones, Arc::clone(&stats))?;
    let inputs = part.segments.iter().map(Input::new).collect::<Result<Vec<_>>>()?;
    let mut columns = Columns { inputs, scratch: Vec::new(), stats, control, read_bytes: 0, held, made_bytes: 0 };
    columns.count_pages()?;
    // What has nothing older beside it repeats nothing.
    let known = if part.from_oldest { None } else { Some(columns.suspects()?) };
    let (mut plan, mut suspects) = (StripePlan::default(), RowSet::new());
    let of_known: usize = known.iter().flatten().flatten().map(|rows| rows.serialized_size()).sum();
    loop {
        let of_suspects = suspects.serialized_size();
        let mut holds = |bytes: usize| held.set(HeldPart::Writer, bytes + of_suspects);
        let mut runs = |key: &[u8], times: &[i64]| writer.run_within(key, times, &mut holds);
        let mut plans = |bytes: usize| held.set(HeldPart::Plan, bytes + of_known);
        if !planner.next(&mut plan, rows_max, &mut runs, &mut plans)? {
            break;
        }
        columns.pace()?;
        if let Some(known) = &known {
            note_suspects(&plan, known, writer.rows(), &mut suspects);
        }
        let of_suspects = suspects.serialized_size();
        let mut holds = |bytes: usize| held.set(HeldPart::Writer, bytes + of_suspects);
        writer.end_stripe_within(&plan.times, &mut Stripe::new(&plan, &mut columns), &mut holds)?;
        control.add_rows(plan.times.len() as u64);
    }
    drop((planner, plan, columns, known));
    held.set(HeldPart::Plan, 0)?;
    held.set(HeldPart::Pages, 0)?;
    writer.suspects(suspects);
    held.set(HeldPart::Writer, writer.memory_bytes())
}

/// A row is a suspect if it was one in the oldest input that holds its key. An input of which nobody knows has only such.
fn note_suspects(plan: &StripePlan, held: &[Option<Arc<RowSet>>], before: u64, out: &mut RowSet) {
    // Of a segment with more rows nothing is said.
    let mut row = u32::try_from(before).unwrap_or_default();
    for item in &plan.items {
        let (first, rows) = match item {
            Item::Span { first, rows } => (*first, *rows),
            Item::Newest { from, .. } => match plan.versions.get(*from as usize) {
                Some(oldest) => (*oldest, 1),
                None => continue,
            },
        };
        match held.get(first.input as usize).and_then(Option::as_ref) {
            None => drop(out.insert_range(row..row.saturating_add(rows))),
            // Row numbers of a segment that has a set fit its numbers.
            Some(set) => {
                let start = first.row as u32;
                let suspects = set.range(start..=start.saturating_add(rows - 1));
                out.extend(suspects.map(|suspect| row.saturating_add(suspect - start)));
            }
        }
        row = row.saturating_add(rows);
    }
}

/// One segment, and the page of the field that was read last.
struct Input {
    segment: Arc<Segment>,
    reader: Reader,
    /// It has the field.
    has: bool,
    /// The rows of the page.
    start: u64,
    end: u64,
    page: PageBuf,
}

impl Input {
    fn new(segment: &Arc<Segment>) -> Result<Self> {
        let reader = segment.reader()?;
        Ok(Self { segment: Arc::clone(segment), reader, has: false, start: 0, end: 0, page: PageBuf::new() })
    }
}

/// Reads fields of the inputs.
struct Columns<'a> {
    inputs: Vec<Input>,
    scratch: Vec<u8>,
    stats: Arc<ScanStats>,
    control: &'a Control,
    /// What `control` was told of.
    read_bytes: u64,
    held: &'a Held,
    /// What the page takes that is being made.
    made_bytes: usize,
}

impl Columns<'_> {
    /// Waits if others come first, and fails if the work is not wanted any more.
    fn pace(&mut self) -> Result<()> {
        let bytes = self.stats.bytes_read.load(std::sync::atomic::Ordering::Relaxed);
        let read = bytes - std::mem::replace(&mut self.read_bytes, bytes);
        self.control.pace(read)
    }

    /// Says what the pages take, with the one that is being made of them, which is encoded, packed and gathered after that.
    fn count_pages(&mut self) -> Result<()> {
        let pages = self.inputs.iter().map(|input| input.page.memory_bytes());
        let (sum, largest) = pages.fold((0, 0), |(sum, largest), bytes| (sum + bytes, bytes.max(largest)));
        self.held.set(HeldPart::Pages, sum + self.made_bytes + 3 * largest + self.scratch.capacity())
    }

    /// The rows of each input that may repeat an older key; `None`: any may.
    fn suspects(&self) -> Result<Vec<Option<Arc<RowSet>>>> {
        let of = |input: &Input| input.reader.suspects().map_err(|error| input.segment.damaged(error));
        self.inputs.iter().map(of).collect()
    }

    /// The input with the page that holds a row; `None` if it does not have the field.
    fn load(&mut self, place: Place, field: (ColumnId, FieldType)) -> Result<Option<&Input>> {
        let Some(input) = self.inputs.get_mut(place.input as usize).filter(|input| input.has) else { return Ok(None) };
        if !(input.start..input.end).contains(&place.row) {
            let at = input.reader.page_of_row(place.row);
            let Some(page) = input.reader.pages().get(at).copied() else { return Ok(None) };
            (input.start, input.end) = (0, 0);
            let Input { segment, reader, page: target, .. } = input;
            read(segment, reader, field.0, at, &mut self.scratch, target, &self.stats)?;
            (input.start, input.end) = (page.first_row, page.first_row + u64::from(page.rows));
            self.pace()?;
            self.count_pages()?;
        }
        Ok(self.inputs.get(place.input as usize))
    }
}

/// The fields of a stripe, made page by page when the writer asks.
struct Stripe<'a, 'b> {
    plan: &'a StripePlan,
    columns: &'a mut Columns<'b>,
    field: (ColumnId, FieldType),
    /// Which item comes next, and how many rows of it are taken.
    item: usize,
    taken: u32,
    presence: Presence,
    values: Values,
}

impl<'a, 'b> Stripe<'a, 'b> {
    fn new(plan: &'a StripePlan, columns: &'a mut Columns<'b>) -> Self {
        let (field, values) = ((ColumnId::TIME, FieldType::I64), Values::new(FieldType::I64));
        Self { plan, columns, field, item: 0, taken: 0, presence: Presence::default(), values }
    }

    fn span(&mut self, mut place: Place, mut rows: u32) -> Result<()> {
        while rows > 0 {
            self.columns.made_bytes = self.values.memory_bytes();
            let Some(input) = self.columns.load(place, self.field)? else {
                self.presence.push_absent(rows as usize);
                return Ok(());
            };
            let start = (place.row - input.start) as usize;
            let count = rows.min((input.end - place.row) as u32);
            append(&input.page, start, count as usize, &mut self.presence, &mut self.values);
            place.row += u64::from(count);
            rows -= count;
        }
        Ok(())
    }

    /// The newest present value of a row that has several versions.
    fn newest(&mut self, versions: &[Place]) -> Result<()> {
        self.columns.made_bytes = self.values.memory_bytes();
        for place in versions.iter().rev() {
            if let Some(input) = self.columns.load(*place, self.field)? {
                let row = (place.row - input.start) as usize;
                if is_present(&input.page, row) {
                    self.values.extend_range(&input.page.values, row, row + 1);
                    self.presence.push_present(1);
                    return Ok(());
                }
            }
        }
        self.presence.push_absent(1);
        Ok(())
    }
}

impl StripeSource for Stripe<'_, '_> {
    fn begin(&mut self, column: ColumnId, kind: FieldType) -> Result<bool> {
        self.field = (column, kind);
        (self.item, self.taken) = (0, 0);
        if self.values.kind() != kind {
            self.values = Values::new(kind);
        }
        let mut any = false;
        for input in &mut self.columns.inputs {
            input.has = has_field(&input.segment, &input.reader, column, kind)?;
            (input.start, input.end) = (0, 0);
            any |= input.has;
        }
        Ok(any)
    }

    fn page(&mut self, rows: usize) -> Result<PageRows<'_>> {
        self.presence.clear();
        self.values.clear();
        let plan = self.plan;
        let mut left = rows as u32;
        while left > 0
            && let Some(item) = plan.items.get(self.item).copied()
        {
            match item {
                Item::Span { first, rows } => {
                    let count = (rows - self.taken).min(left);
                    self.span(Place { row: first.row + u64::from(self.taken), ..first }, count)?;
                    self.taken += count;
                    left -= count;
                    if self.taken == rows {
                        (self.item, self.taken) = (self.item + 1, 0);
                    }
                }
                Item::Newest { from, to } => {
                    self.newest(plan.versions.get(from as usize..to as usize).unwrap_or_default())?;
                    self.item += 1;
                    left -= 1;
                }
            }
        }
        assert!(left == 0, "a page has rows of its stripe");
        Ok(PageRows { presence: self.presence.bits(), values: ValuesRef::from(&self.values) })
    }
}

fn is_present(page: &PageBuf, row: usize) -> bool {
    page.presence.as_ref().is_none_or(|bits| bits.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1))
}

/// Appends rows of a page: which of them have a value, and these.
fn append(page: &PageBuf, start: usize, count: usize, presence: &mut Presence, values: &mut Values) {
    let Some(bits) = &page.presence else {
        values.extend_range(&page.values, start, start + count);
        presence.push_present(count);
        return;
    };
    presence.extend(Some(bits), start, start + count);
    let mut row = start;
    let end = start + count;
    while row < end {
        // Stretches of present rows: often there are few.
        let mut stop = row;
        while stop < end && is_present(page, stop) {
            stop += 1;
        }
        values.extend_range(&page.values, row, stop);
        row = stop + 1;
    }
}
