//! The writing end of the log. One thread owns it; it alone numbers batches.
//!
//! A group is one write and one sync. Changing slots costs two more syncs: the head of the next slot, then "continues in
//! log L" in the current one, and only then the group; so a log that holds facts is always named by the log before it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::batch::EncodedBatch;
use super::group::{self, GROUP_HEAD_BYTES, GroupBody, GroupPlace};
use super::slot::{PreparedSlot, SlotHead, SlotOrder, list_slots, slot_path};
use super::{
    RESERVE_BYTES, SECTOR_BYTES, SLOT_BYTES_MAX, SLOT_BYTES_MIN, WAL_DIR, WalIdentity, WalOptions, whole_sectors,
};
use crate::disk::{File, read_exact_at, write_all_at};
use crate::world::World;
use crate::{Error, Result};

/// The group buffer gives memory above this back.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Writes groups into the ring of slots. See the module's header for what always holds.
pub struct WalWriter {
    pub(super) world: World,
    identity: WalIdentity,
    options: WalOptions,
    pub(super) slots: Vec<Slot>,
    /// Index into `slots` of the log being written.
    pub(super) current: usize,
    log_id: u64,
    /// Where the next group goes.
    offset: u64,
    pub(super) next_sequence: u64,
    next_group: u64,
    /// The greatest manifest edit that a synced group names.
    edit_named: u64,
    /// Slots that end at or before this sequence may be reused (one past the last that was passed).
    released_end: u64,
    /// Releases that wait for a synced group that names their edit: (one past the last sequence, edit).
    releases: Vec<(u64, u64)>,
    pub(super) order_out: bool,
    buffer: Vec<u8>,
    fdatasyncs: u64,
    poisoned: bool,
}

pub(super) struct Slot {
    pub(super) path: PathBuf,
    file: Box<dyn File>,
    /// One past the last sequence in it. Of the current slot: where it began.
    end_sequence: u64,
    /// Bytes that its log takes.
    used_bytes: u64,
    /// What is not zero behind the head is of batches from this one on; a log that ended there before may have left them.
    pub(super) since: u64,
    /// Behind so many bytes it is zero.
    pub(super) dirty_bytes: u64,
    /// Somebody fills it with zeros: no log begins in it.
    pub(super) is_out: bool,
}

impl Slot {
    /// Nothing is known of what a former process left in it if `dirty_bytes` is not 0.
    fn new(path: PathBuf, file: Box<dyn File>, end_sequence: u64, since: u64, dirty_bytes: u64) -> Self {
        Self { path, file, end_sequence, used_bytes: 0, since, dirty_bytes, is_out: false }
    }
}

impl WalWriter {
    /// Begins the log of a new epoch, in the slots that exist and as many new ones as make two.
    ///
    /// `next_sequence` is the `wal_replay_from` of the checkpoint that opened this epoch, `manifest_edit` the last edit.
    /// That checkpoint must be durable and everything in the old logs passed by it, for their slots are reused here.
    /// [`Error::Unsupported`] or [`Error::Corrupt`] if a slot is of another store or of a later version.
    pub fn start(
        world: &World,
        identity: WalIdentity,
        options: WalOptions,
        next_sequence: u64,
        manifest_edit: u64,
    ) -> Result<Self> {
        check_options(&options)?;
        assert!(0 < next_sequence, "sequences begin at 1");
        world.disk.create_dir(Path::new(WAL_DIR)).map_err(|error| Error::io("create directory", WAL_DIR, error))?;
        world.disk.sync_dir(Path::new("")).map_err(|error| Error::io("sync directory", ".", error))?;
        let existing = list_slots(world)?.last().map_or(0, |last| last.saturating_add(1));
        let count = existing.clamp(2, options.slots_max);
        let order = |slot| SlotOrder { identity, slot, bytes: options.slot_bytes };
        let orders: Vec<_> = (0..count).map(order).collect();
        let (files, first) = take_over(world, &orders)?;
        let slot = |(slot, file)| Slot::new(slot_path(slot), file, next_sequence, 0, options.slot_bytes);
        let slots = (0..count).zip(files).map(slot).collect();
        let mut writer = Self {
            world: world.clone(),
            identity,
            options,
            slots,
            current: first,
            log_id: 0,
            offset: 0,
            next_sequence,
            next_group: 1,
            edit_named: manifest_edit,
            released_end: next_sequence,
            releases: Vec::new(),
            order_out: false,
            buffer: Vec::new(),
            fdatasyncs: 0,
            poisoned: false,
        };
        // The first log holds nothing but the link to the second. So the log that holds the first facts is named, too,
        // and its loss is noticed.
        writer.log_id = writer.fresh_log_id();
        writer.write_slot_head(first, writer.log_id, 0, 1, manifest_edit)?;
        writer.begin_log(first, writer.log_id);
        let second = usize::from(first == 0);
        writer.next_log(second, manifest_edit)?;
        Ok(writer)
    }

    /// Writes `batches` as one group and syncs it; gives their sequences, in order. `Ok` means durable.
    ///
    /// `manifest_edit` is the last edit known durable. Nothing is written if the batches do not fit a slot
    /// ([`Error::Invalid`], see [`WalWriter::group_bytes_max`]) or no slot is free ([`Error::Overloaded`]).
    /// [`Error::Io`] is final: what became of the group is unknown, and every later call gives [`Error::Poisoned`].
    pub fn append(&mut self, batches: &[EncodedBatch], manifest_edit: u64) -> Result<Range<u64>> {
        self.check_alive()?;
        let first = self.next_sequence;
        if batches.is_empty() {
            return Ok(first..first);
        }
        let body_bytes = group::facts_bytes(batches) - GROUP_HEAD_BYTES;
        if self.group_bytes_max() < body_bytes {
            let reason = format!("takes {body_bytes} bytes of the log, at most {} fit a slot", self.group_bytes_max());
            return Err(Error::invalid("batch", reason));
        }
        self.make_room(whole_sectors(GROUP_HEAD_BYTES + body_bytes), manifest_edit)?;
        self.write_group(GroupBody::Facts(batches), manifest_edit)?;
        Ok(first..self.next_sequence)
    }

    /// Writes an empty group: it shows later that the groups before it were durable, and frees the slots that
    /// [`WalWriter::release_through`] gave up by an edit it names. `Ok(false)` if the slot is full, no other is free, and
    /// a group would free none; nothing is written then.
    pub fn witness(&mut self, manifest_edit: u64) -> Result<bool> {
        self.check_alive()?;
        if self.main_end() < self.offset + SECTOR_BYTES {
            if let Some(next) = self.free_slot() {
                self.next_log(next, manifest_edit)?;
            } else if !self.would_free(manifest_edit) {
                return Ok(false);
            }
            // Else it goes to the sector that is kept for this.
        }
        self.write_group(GroupBody::Witness, manifest_edit)?;
        Ok(true)
    }

    /// Gives up all batches up to `sequence`: a cut passed them in `manifest_edit`, which is durable. Their slots are
    /// reused only after a later group that names this edit, or a later one, is synced.
    pub fn release_through(&mut self, sequence: u64, manifest_edit: u64) {
        let end = sequence.saturating_add(1).min(self.next_sequence);
        if manifest_edit <= self.edit_named {
            self.released_end = self.released_end.max(end);
        } else {
            self.releases.push((end, manifest_edit));
        }
    }

    /// The ring has no free slot left and may grow: call [`WalWriter::order_slot`].
    pub fn needs_slot(&self) -> bool {
        let is_any_free = (0..self.slots.len()).any(|index| self.is_free(index));
        !self.order_out && !is_any_free && self.slots.len() < self.options.slots_max as usize
    }

    /// An order for one more slot, to be prepared on another thread; `None` while one is out, or at the maximum.
    pub fn order_slot(&mut self) -> Option<SlotOrder> {
        if self.order_out || self.options.slots_max as usize <= self.slots.len() {
            return None;
        }
        self.order_out = true;
        Some(SlotOrder { identity: self.identity, slot: self.slots.len() as u32, bytes: self.options.slot_bytes })
    }

    /// Takes the slot that was ordered. Panics on one that was not.
    pub fn add_slot(&mut self, prepared: PreparedSlot) {
        assert!(self.order_out, "no slot was ordered");
        assert!(prepared.slot as usize == self.slots.len(), "not the slot that was ordered");
        self.order_out = false;
        let PreparedSlot { path, file, .. } = prepared;
        self.slots.push(Slot::new(path, file, 0, self.next_sequence, 0));
    }

    /// The order failed; it may be given again later.
    pub fn cancel_order(&mut self) {
        self.order_out = false;
    }

    /// Orders, prepares and adds one slot on this thread. `Ok(false)` at the maximum. A failure harms nothing.
    pub fn grow(&mut self) -> Result<bool> {
        let Some(order) = self.order_slot() else { return Ok(false) };
        match order.prepare(&self.world) {
            Ok(prepared) => {
                self.add_slot(prepared);
                Ok(true)
            }
            Err(error) => {
                self.cancel_order();
                Err(error)
            }
        }
    }

    /// The most that the [`EncodedBatch::encoded_bytes`] of one group may add up to.
    pub fn group_bytes_max(&self) -> u64 {
        group_bytes_max(&self.options)
    }

    /// Whether a group with `bytes` of encoded batches could be written now.
    pub fn has_room(&self, bytes: u64) -> bool {
        bytes <= self.group_bytes_max()
            && (self.offset + whole_sectors(GROUP_HEAD_BYTES + bytes) <= self.main_end() || self.free_slot().is_some())
    }

    /// Bytes of the slots that cannot be reused yet, as far as they are written.
    pub fn used_bytes(&self) -> u64 {
        let live = self.slots.iter().enumerate().filter(|(index, _)| !self.is_free(*index));
        live.map(|(_, slot)| slot.used_bytes).sum()
    }

    /// Bytes that the ring may grow to.
    pub fn bytes_max(&self) -> u64 {
        self.options.slot_bytes * u64::from(self.options.slots_max)
    }

    /// How many slots the ring has.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// How many syncs of slots this writer did, those of preparing slots not counted.
    pub fn fdatasyncs(&self) -> u64 {
        self.fdatasyncs
    }

    /// The sequence that the next batch gets.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The greatest manifest edit that a synced group names.
    pub fn edit_named(&self) -> u64 {
        self.edit_named
    }

    /// Whether a write or a sync failed, so that the writer is of no more use.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    pub(super) fn check_alive(&self) -> Result<()> {
        if self.poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }

    /// Where the sectors begin that are kept for a last witness and for "continues".
    fn main_end(&self) -> u64 {
        self.options.slot_bytes - RESERVE_BYTES
    }

    pub(super) fn is_free(&self, index: usize) -> bool {
        index != self.current && self.slots[index].end_sequence <= self.released_end
    }

    /// The free slot that comes next in the ring.
    pub(super) fn free_slot(&self) -> Option<usize> {
        let count = self.slots.len();
        let is_ready = |index: &usize| self.is_free(*index) && !self.slots[*index].is_out;
        (1..count).map(|step| (self.current + step) % count).find(is_ready)
    }

    /// Whether a synced group that names `manifest_edit` would free a slot.
    fn would_free(&self, manifest_edit: u64) -> bool {
        let named = self.releases.iter().filter(|(_, edit)| *edit <= manifest_edit);
        let end = named.map(|(end, _)| *end).max().unwrap_or(0);
        self.slots.iter().enumerate().any(|(index, slot)| index != self.current && slot.end_sequence <= end)
    }

    /// Makes `bytes` of groups fit behind `offset`, in another slot if need be.
    fn make_room(&mut self, bytes: u64, manifest_edit: u64) -> Result<()> {
        if self.offset + bytes <= self.main_end() {
            return Ok(());
        }
        if self.free_slot().is_none() && self.would_free(manifest_edit) {
            self.write_group(GroupBody::Witness, manifest_edit)?;
        }
        match self.free_slot() {
            Some(next) => self.next_log(next, manifest_edit),
            None => Err(Error::Overloaded { used_bytes: self.used_bytes(), bytes_max: self.bytes_max() }),
        }
    }

    /// Ends the current log with a link to a new one in slot `next`, which becomes the current.
    pub(super) fn next_log(&mut self, next: usize, manifest_edit: u64) -> Result<()> {
        let log_id = self.fresh_log_id();
        self.write_slot_head(next, log_id, self.log_id, self.next_group + 1, manifest_edit)?;
        self.write_group(GroupBody::Continues(log_id), manifest_edit)?;
        self.slots[self.current].end_sequence = self.next_sequence;
        self.begin_log(next, log_id);
        Ok(())
    }

    fn begin_log(&mut self, index: usize, log_id: u64) {
        self.current = index;
        self.log_id = log_id;
        self.offset = SECTOR_BYTES;
        self.slots[index].end_sequence = self.next_sequence;
        self.slots[index].used_bytes = SECTOR_BYTES;
    }

    fn write_slot_head(
        &mut self,
        index: usize,
        log_id: u64,
        previous_log_id: u64,
        first_group: u64,
        manifest_edit: u64,
    ) -> Result<()> {
        let head = SlotHead {
            identity: self.identity,
            slot: index as u32,
            log_id,
            previous_log_id,
            first_sequence: self.next_sequence,
            first_group,
            manifest_edit: manifest_edit.max(self.edit_named),
        };
        self.write_and_sync(index, 0, &head.encode())
    }

    /// One write, one sync; then the group counts.
    fn write_group(&mut self, body: GroupBody<'_>, manifest_edit: u64) -> Result<()> {
        let manifest_edit = manifest_edit.max(self.edit_named);
        let place = GroupPlace {
            log_id: self.log_id,
            group: self.next_group,
            first_sequence: self.next_sequence,
            manifest_edit,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        group::encode(place, body, &mut buffer);
        let bytes = buffer.len() as u64;
        assert!(self.offset + bytes <= self.options.slot_bytes, "a group must not leave its slot");
        self.write_and_sync(self.current, self.offset, &buffer)?;
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.buffer = buffer;

        self.offset += bytes;
        let slot = &mut self.slots[self.current];
        slot.used_bytes = self.offset;
        slot.dirty_bytes = slot.dirty_bytes.max(self.offset);
        self.next_group += 1;
        if let GroupBody::Facts(batches) = body {
            self.next_sequence += batches.len() as u64;
        }
        self.edit_named = manifest_edit;
        let named = self.releases.extract_if(.., |(_, edit)| *edit <= manifest_edit);
        self.released_end = named.map(|(end, _)| end).fold(self.released_end, u64::max);
        Ok(())
    }

    fn write_and_sync(&mut self, index: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let slot = &self.slots[index];
        self.poisoned = true; // until both calls came back: what is durable is unknown
        write_all_at(&*slot.file, offset, bytes).map_err(|error| Error::io("write", &slot.path, error))?;
        self.fdatasyncs += 1;
        slot.file.sync_data().map_err(|error| Error::io("sync", &slot.path, error))?;
        self.poisoned = false;
        Ok(())
    }

    /// Random, so that what an earlier use of a slot left behind never parses; never 0.
    fn fresh_log_id(&self) -> u64 {
        loop {
            let log_id = self.world.clock.random_u64();
            if log_id != 0 {
                return log_id;
            }
        }
    }
}

impl std::fmt::Debug for WalWriter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("WalWriter")
            .field("slots", &self.slots.len())
            .field("current", &self.current)
            .field("offset", &self.offset)
            .field("next_sequence", &self.next_sequence)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

fn check_options(options: &WalOptions) -> Result<()> {
    let WalOptions { slot_bytes, slots_max } = *options;
    if !(SLOT_BYTES_MIN..=SLOT_BYTES_MAX).contains(&slot_bytes) || !slot_bytes.is_multiple_of(SECTOR_BYTES) {
        let reason = format!("{slot_bytes} is not a multiple of 512 from {SLOT_BYTES_MIN} to {SLOT_BYTES_MAX}");
        return Err(Error::invalid("size of wal slots", reason));
    }
    if slots_max < 2 {
        return Err(Error::invalid("number of wal slots", format!("{slots_max} is below 2")));
    }
    Ok(())
}

/// What a slot can hold besides its head, its reserve and the head of one group.
fn group_bytes_max(options: &WalOptions) -> u64 {
    options.slot_bytes - SECTOR_BYTES - RESERVE_BYTES - GROUP_HEAD_BYTES
}

/// What a start finds under the name of a slot that was created whole.
struct Found {
    file: Box<dyn File>,
    head: SlotHead,
    sector: [u8; SECTOR_BYTES as usize],
    has_our_length: bool,
}

/// The files of the slots, existing ones where they can be used, and the slot that the first log may take.
///
/// Until a head of this epoch is durable, a replay after a crash reads the newest of the old logs, though everything in
/// it is passed. So its slot is the last to be touched, and only after another one has a head of this epoch.
fn take_over(world: &World, orders: &[SlotOrder]) -> Result<(Vec<Box<dyn File>>, usize)> {
    let found: Vec<_> = orders.iter().map(|order| find(world, order)).collect::<Result<_>>()?;
    // An idle head of a later epoch is the only witness that all logs before it were passed: it goes last, as a log does.
    let age = |found: &Option<Found>| {
        let head = found.as_ref().map(|found| found.head);
        head.map_or((0, false, 0), |head| (head.identity.epoch, head.log_id != 0, head.first_group))
    };
    let newest = (0..found.len()).max_by_key(|index| age(&found[*index])).unwrap_or(0);
    let first = usize::from(newest == 0);
    if let Some(witness) = &found[newest]
        && found.iter().flatten().any(|found| !found.has_our_length)
    {
        // Slots that are made anew are gone for a while, and a process that was killed may have left this head in the page cache alone.
        let path = slot_path(orders[newest].slot);
        write_all_at(&*witness.file, 0, &witness.sector).map_err(|error| Error::io("write", &path, error))?;
        witness.file.sync_data().map_err(|error| Error::io("sync", &path, error))?;
    }
    let keeps = |index: usize| found[index].as_ref().is_some_and(|found| found.has_our_length);
    if let Some(found) = &found[first]
        && !keeps(newest)
        && keeps(first)
    {
        orders[first].mark_idle(&*found.file)?;
    }
    let mut order_of_work: Vec<usize> = (0..found.len()).filter(|index| *index != newest).collect();
    order_of_work.push(newest);
    let kept = |found: Option<Found>| found.filter(|found| found.has_our_length).map(|found| found.file);
    let mut files: Vec<_> = found.into_iter().map(kept).collect();
    for index in order_of_work {
        if files[index].is_none() {
            files[index] = Some(orders[index].prepare(world)?.file);
        }
    }
    Ok((files.into_iter().flatten().collect(), first))
}

fn find(world: &World, order: &SlotOrder) -> Result<Option<Found>> {
    let path = slot_path(order.slot);
    let file = match world.disk.open_write(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let bytes = file.bytes().map_err(|error| Error::io("measure", &path, error))?;
    if bytes < SECTOR_BYTES {
        return Ok(None);
    }
    let mut sector = [0; SECTOR_BYTES as usize];
    read_exact_at(&*file, 0, &mut sector).map_err(|error| Error::io("read", &path, error))?;
    let head = SlotHead::decode(&sector).map_err(|reason| Error::Unsupported { path: path.clone(), reason })?;
    let Some(head) = head else { return Ok(None) };
    head.check_owner(&order.identity, order.slot, &path)?;
    if order.identity.epoch <= head.identity.epoch {
        let reason =
            format!("the slot is of epoch {}, the epoch to begin is {}", head.identity.epoch, order.identity.epoch);
        return Err(Error::corrupt(path, 48, reason));
    }
    Ok(Some(Found { file, head, sector, has_our_length: bytes == order.bytes }))
}
