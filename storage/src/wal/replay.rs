//! The reading end of the log: hands every batch from a sequence on to a visitor, in order, and finds the end.
//!
//! The first group that is not valid ends the log, unless something proves that it had been synced: then acknowledged
//! data is damaged, and that is an error. The rules, and why a torn tail never looks like damage, are in
//! `storage/format/wal.md`. Nothing is written here.

use super::batch::{BatchKind, DecodedBatch, SourcePosition};
use super::group::{GROUP_HEAD_BYTES, GroupHead, GroupKind};
use super::slot::{SlotHead, SlotReader, list_slots};
use super::{SECTOR_BYTES, WalIdentity, u64_at, whole_sectors};
use crate::world::World;
use crate::{Error, Result};

/// What the manifest says about the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayFrom {
    /// `wal_replay_from`: every fact before it is in a file that the manifest names.
    pub sequence: u64,
    /// The number of the last edit.
    pub manifest_edit: u64,
    /// The newest epoch whose log was begun for sure: that one, or one of a later epoch, must be there. 0: perhaps none was,
    /// and that there is none is taken for a crash before the first was begun.
    pub log_epoch: u32,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// One past the last sequence, or [`ReplayFrom::sequence`] if there was none.
    pub next_sequence: u64,
    /// The number of the last valid group; 0 if there is none.
    pub last_group: u64,
    /// The greatest manifest edit that a group named.
    pub manifest_edit: u64,
    /// Groups that were read.
    pub groups: u64,
    /// Batches that were handed out.
    pub batches: u64,
    /// Bytes of the groups that were read.
    pub bytes: u64,
    /// Bytes of the torn group at the end, as its head gives them; 0 if there is none or its head is lost.
    pub torn_bytes: u64,
}

/// What replay calls: sequence, kind, source positions, payload.
pub type Visitor<'a> = dyn FnMut(u64, BatchKind, &[SourcePosition], &[u8]) -> Result<()> + 'a;

/// Hands all batches from `from.sequence` on to `visit(sequence, kind, positions, payload)`, in order.
///
/// `identity.epoch` is the epoch of the manifest's newest checkpoint; the logs of the newest epoch up to it are read.
/// [`Error::Corrupt`] if acknowledged batches are
/// damaged or missing, [`Error::Unsupported`] if they need a later version. Batches before the damage were visited then.
/// An error of `visit` ends the replay and is returned.
pub fn replay(world: &World, identity: WalIdentity, from: ReplayFrom, visit: &mut Visitor<'_>) -> Result<Replayed> {
    let mut logs = Logs::open(world, &identity, &from)?;
    let mut replayed = Replayed { next_sequence: from.sequence, ..Replayed::default() };
    let Some(mut index) = logs.first(&from)? else { return Ok(replayed) };
    let head = logs.all[index].head;
    let mut due = Due { group: head.first_group, sequence: head.first_sequence };
    while let Some(next) = logs.read(index, &mut due, &from, &mut replayed, visit)? {
        index = next;
    }
    let log = &logs.all[index];
    // An earlier epoch's log may end before: the open that cut had read what only the page cache held.
    if due.sequence < from.sequence && log.head.identity.epoch == identity.epoch {
        let reason =
            format!("the log ends before sequence {}, the manifest replays from {}", due.sequence, from.sequence);
        return Err(Error::corrupt(log.slot.path(), 0, reason));
    }
    replayed.next_sequence = due.sequence.max(from.sequence);
    replayed.last_group = due.group - 1;
    Ok(replayed)
}

/// A slot in use.
struct Log {
    slot: SlotReader,
    head: SlotHead,
}

/// What the next group must be.
#[derive(Clone, Copy)]
struct Due {
    group: u64,
    sequence: u64,
}

/// The logs of one epoch, in the order in which they were begun.
struct Logs {
    all: Vec<Log>,
    /// That epoch.
    newest: u32,
}

impl Logs {
    fn open(world: &World, identity: &WalIdentity, from: &ReplayFrom) -> Result<Self> {
        let mut all: Vec<Log> = Vec::new();
        // An open may have crashed between the checkpoint of its epoch and the start of its log: then the log of an
        // earlier epoch is in force. An idle head counts: a start gives it to slots only when all logs are passed.
        let mut newest = from.log_epoch;
        for number in list_slots(world)? {
            let mut slot = SlotReader::open(world, number)?;
            let Some(head) = slot.head()? else { continue };
            head.check_owner(identity, number, slot.path())?;
            if identity.epoch < head.identity.epoch {
                let reason =
                    format!("the slot is of epoch {}, the manifest of {}", head.identity.epoch, identity.epoch);
                return Err(Error::corrupt(slot.path(), 48, reason));
            }
            newest = newest.max(head.identity.epoch);
            if head.log_id != 0 && head.identity.epoch == newest {
                if head.first_group == 0 || head.first_sequence == 0 {
                    return Err(Error::corrupt(slot.path(), 72, "the slot begins at 0"));
                }
                check_edit(&slot, 0, head.manifest_edit, from)?;
                all.push(Log { slot, head });
            }
        }
        all.retain(|log| log.head.identity.epoch == newest);
        all.sort_by_key(|log| log.head.first_group);
        Ok(Self { all, newest })
    }

    /// The last log that does not begin after the sequence to replay from; `None` if no log was begun.
    fn first(&self, from: &ReplayFrom) -> Result<Option<usize>> {
        let first = self.all.iter().rposition(|log| log.head.first_sequence <= from.sequence);
        match (first, self.all.first()) {
            (Some(first), _) => Ok(Some(first)),
            // Only idle heads of a later epoch: an open died before its first log, when all others were passed.
            (None, None) if from.log_epoch < self.newest || from.log_epoch == 0 => Ok(None),
            (None, None) => {
                let reason = format!("the log of epoch {} was begun, and is missing", from.log_epoch);
                Err(Error::corrupt(super::WAL_DIR, 0, reason))
            }
            (None, Some(log)) => {
                let reason =
                    format!("the log begins at sequence {}, {} is missing", log.head.first_sequence, from.sequence);
                Err(Error::corrupt(log.slot.path(), 72, reason))
            }
        }
    }

    /// Reads one log to its end. `Some` is the log it continues in, `None` is the end of all.
    fn read(
        &mut self,
        index: usize,
        due: &mut Due,
        from: &ReplayFrom,
        replayed: &mut Replayed,
        visit: &mut Visitor<'_>,
    ) -> Result<Option<usize>> {
        let Log { slot, head } = &mut self.all[index];
        let log_id = head.log_id;
        let mut offset = SECTOR_BYTES;
        loop {
            let Some(group) = valid_group(slot, offset, log_id)? else {
                replayed.torn_bytes = torn_bytes(slot, offset, log_id)?;
                self.check_end(index, offset, due)?;
                return Ok(None);
            };
            let kind = check_group(slot, offset, &group, due, from)?;
            visit_batches(slot, offset, &group, from, replayed, visit)?;
            replayed.groups += 1;
            replayed.bytes += u64::from(group.bytes);
            replayed.manifest_edit = replayed.manifest_edit.max(group.manifest_edit);
            *due = Due { group: due.group + 1, sequence: group.end_sequence() };
            if kind == GroupKind::Continues {
                return self.follow(index, offset, due).map(Some);
            }
            offset += whole_sectors(u64::from(group.bytes));
        }
    }

    /// The log that the "continues" at `offset` names.
    fn follow(&mut self, index: usize, offset: u64, due: &Due) -> Result<usize> {
        let Log { slot, head } = &mut self.all[index];
        let log_id = head.log_id;
        let next_id = slot.at(offset + GROUP_HEAD_BYTES, 8)?.and_then(|body| u64_at(body, 0)).unwrap_or(0);
        let path = slot.path().to_path_buf();
        let corrupt = |reason: String| Err(Error::corrupt(&path, offset, reason));
        let Some(next) = self.all.iter().position(|log| log.head.log_id == next_id) else {
            let (id, sequence) = (next_id, due.sequence);
            return corrupt(format!("it continues in log {id:016x} from sequence {sequence} on, which is missing"));
        };
        let head = &self.all[next].head;
        if (head.previous_log_id, head.first_group, head.first_sequence) != (log_id, due.group, due.sequence) {
            return corrupt(format!("it continues in log {next_id:016x}, which does not continue it"));
        }
        Ok(next)
    }

    /// No valid group is at `offset`: an error if anything proves that one was synced there.
    fn check_end(&mut self, index: usize, offset: u64, due: &Due) -> Result<()> {
        let mut proof = find_group(&mut self.all[index], offset + SECTOR_BYTES, due)?;
        for log in self.all.iter_mut().filter(|log| due.group < log.head.first_group) {
            if proof.is_some() {
                break;
            }
            // The head was written after all groups but the "continues", `first_group` - 1, were synced.
            proof = if due.group < log.head.first_group - 1 {
                Some(format!("slot {} was begun at sequence {}", log.head.slot, log.head.first_sequence))
            } else {
                find_group(log, SECTOR_BYTES, due)?
            };
        }
        let Some(proof) = proof else { return Ok(()) };
        let reason =
            format!("group {}, sequence {}, is damaged, but had been synced: {proof}", due.group, due.sequence);
        Err(Error::corrupt(self.all[index].slot.path(), offset, reason))
    }
}

/// The group at `offset`, if its head and all its batches are what was written.
fn valid_group(slot: &mut SlotReader, offset: u64, log_id: u64) -> Result<Option<GroupHead>> {
    let Some(group) = slot.group_head(offset, log_id)? else { return Ok(None) };
    let end = offset + u64::from(group.bytes);
    let mut at = offset + GROUP_HEAD_BYTES;
    for _ in 0..group.batch_count {
        let Some(frame) = slot.batch_frame(at, end)? else { return Ok(None) };
        let Some(batch) = slot.at(at, frame.bytes as u64)? else { return Ok(None) };
        if !frame.holds(batch) {
            return Ok(None);
        }
        at += frame.bytes as u64;
    }
    Ok(Some(group))
}

/// A group with good checksums must also be the one that is due.
fn check_group(slot: &SlotReader, offset: u64, group: &GroupHead, due: &Due, from: &ReplayFrom) -> Result<GroupKind> {
    let corrupt = |reason: String| Err(Error::corrupt(slot.path(), offset, reason));
    let Some(kind) = group.kind() else {
        let reason = format!("group kind {} at byte {offset} is not known", group.kind);
        return Err(Error::Unsupported { path: slot.path().into(), reason });
    };
    if (group.group, group.first_sequence) != (due.group, due.sequence) {
        let (found, sequence) = (group.group, group.first_sequence);
        return corrupt(format!(
            "it holds group {found} from sequence {sequence}, due was group {} from sequence {}",
            due.group, due.sequence
        ));
    }
    if (kind == GroupKind::Facts) != (0 < group.batch_count) || group.first_sequence <= group.durable_through {
        return corrupt("the group head contradicts itself".into());
    }
    check_edit(slot, offset, group.manifest_edit, from)?;
    Ok(kind)
}

/// The log must not know an edit that the manifest does not: it would have been lost.
fn check_edit(slot: &SlotReader, offset: u64, named: u64, from: &ReplayFrom) -> Result<()> {
    if named <= from.manifest_edit {
        return Ok(());
    }
    let last = from.manifest_edit;
    let reason = format!("it names manifest edit {named}, the manifest ends with {last}: an edit is missing");
    Err(Error::corrupt(slot.path(), offset, reason))
}

/// Hands out the batches of a valid group, from the wanted sequence on.
fn visit_batches(
    slot: &mut SlotReader,
    offset: u64,
    group: &GroupHead,
    from: &ReplayFrom,
    replayed: &mut Replayed,
    visit: &mut Visitor<'_>,
) -> Result<()> {
    if group.end_sequence() <= from.sequence {
        return Ok(());
    }
    let end = offset + u64::from(group.bytes);
    let mut at = offset + GROUP_HEAD_BYTES;
    for sequence in group.first_sequence..group.end_sequence() {
        let path = slot.path().to_path_buf();
        let changed = || Error::corrupt(&path, at, "the batch changed while it was read");
        let frame = slot.batch_frame(at, end)?.ok_or_else(changed)?;
        let bytes = slot.at(at, frame.bytes as u64)?.ok_or_else(changed)?;
        if from.sequence <= sequence {
            let batch = DecodedBatch::decode(bytes)
                .map_err(|reason| Error::Unsupported { path: path.clone(), reason: format!("{reason} (byte {at})") })?;
            visit(sequence, batch.kind, &batch.positions, batch.payload)?;
            replayed.batches += 1;
        }
        at += frame.bytes as u64;
    }
    Ok(())
}

/// Looks for a group numbered above the one that is due, from `offset` on.
fn find_group(log: &mut Log, mut offset: u64, due: &Due) -> Result<Option<String>> {
    while offset < log.slot.bytes() {
        let found = log.slot.group_head(offset, log.head.log_id)?.filter(|group| due.group < group.group);
        if let Some(group) = found {
            let (number, slot, through) = (group.group, log.head.slot, group.durable_through);
            return Ok(Some(format!("group {number}, slot {slot} byte {offset}, says durable through {through}")));
        }
        offset += SECTOR_BYTES;
    }
    Ok(None)
}

/// How long the group at `offset` was meant to be, if its head survived.
fn torn_bytes(slot: &mut SlotReader, offset: u64, log_id: u64) -> Result<u64> {
    let head = slot.at(offset, GROUP_HEAD_BYTES)?.and_then(|bytes| GroupHead::decode(bytes, log_id));
    Ok(head.map_or(0, |head| u64::from(head.bytes)))
}
