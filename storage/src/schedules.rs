//! From queue to reader under a model checker: live state is replayed state, in every schedule.
//!
//! Two producers under loom (all schedules), eight under shuttle (random ones). What runs is the code of the engine,
//! compiled again with the locks and the pointer of the checker: the queue, the applier and the memtables it shares with
//! readers. Names and ordinals come from the registry, payloads go through the bytes of the log. The log itself is
//! a list here, for one thread alone writes it; its own tests are in `wal/tests`.

mod loomed;
mod shuttled;
