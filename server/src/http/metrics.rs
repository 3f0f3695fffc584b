//! `/metrics`: Prometheus text, each metric with its help and type.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, header};
use marigram_query::{Action, Pool, PoolStats, QueryEngine};
use marigram_storage::{Engine, EngineStats, MemoryUsage, MemoryUse};
use tokio::runtime::Handle;

use crate::metrics::{BUCKETS, Histogram};
use crate::status::Refusal;
use crate::{Shared, auth};

/// For who reads all databases: it is about the whole store.
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response<Body>, Refusal> {
    let (parts, _) = request.into_parts();
    auth::principal(&parts)?.may_everywhere(Action::Read)?;
    let mut response = Response::new(Body::from(text(&shared, Handle::current().metrics().num_alive_tasks())));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// All metrics of this process, whose `connections` run as so many tasks.
fn text(shared: &Shared, connections: usize) -> String {
    let metrics = &shared.metrics;
    let road = shared.pipeline.metrics();
    let mut page = Page::default();
    page.head("marigram_info", "gauge", "Constant 1, labelled with the version.");
    page.sample("marigram_info", &format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1);
    let up = shared.elapsed_since(shared.started_monotonic_ns).as_secs_f64();
    page.gauge("marigram_uptime_seconds", "How long the server has been ready.", up);
    page.head("marigram_http_replies_total", "counter", "Replies by class of status.");
    for (index, counter) in metrics.http_replies.iter().enumerate() {
        page.sample("marigram_http_replies_total", &format!("{{class=\"{}xx\"}}", index + 1), counter.get());
    }
    page.gauge("marigram_http_requests_in_flight", "Requests under way.", metrics.http_in_flight.get());
    page.histogram("marigram_http_seconds", "From a request to the head of its reply.", &metrics.http_seconds);
    for (name, help, counter) in [
        ("connections_total", "Connections accepted.", &metrics.connections),
        (
            "connections_broken_total",
            "Connections that ended within the head of a request.",
            &metrics.connections_broken,
        ),
        ("unauthorized_total", "Requests and connections without a valid token.", &metrics.unauthorized),
        ("write_bodies_total", "Bodies of line protocol that came.", &metrics.write_bodies),
        ("write_received_bytes_total", "Bytes of bodies as received.", &metrics.write_received_bytes),
        ("write_decoded_bytes_total", "Bytes of bodies once decoded.", &road.decoded_bytes),
        ("write_rows_total", "Rows stored from line protocol.", &road.rows),
        ("write_lines_refused_total", "Lines refused, each named in its reply.", &road.lines_refused),
        ("write_lines_future_total", "Lines refused for a time too far ahead.", &road.lines_future),
        ("write_bodies_refused_total", "Bodies refused whole for what they are.", &metrics.write_bodies_refused),
        ("write_full_total", "Bodies answered with 503 for want of room.", &metrics.write_full),
        ("write_disk_full_total", "Bodies answered with 507.", &metrics.write_disk_full),
        ("write_replayed_total", "Bodies of a numbered source that were stored before.", &road.bodies_replayed),
        ("queries_total", "Statements of SQL begun.", &metrics.queries),
        ("queries_failed_total", "Statements that failed before their first row.", &metrics.queries_failed),
        ("queries_broken_total", "Answers broken off after their first byte.", &metrics.queries_broken),
        ("query_rows_total", "Rows sent.", &metrics.query_rows),
        ("query_bytes_total", "Bytes of rows sent, before compression.", &metrics.query_bytes),
        ("pg_connections_total", "Connections of PostgreSQL's protocol that were begun.", &metrics.pg_connections),
        ("pg_statements_total", "Statements that came by PostgreSQL's protocol.", &metrics.pg_statements),
        ("pg_errors_total", "Errors that were told by PostgreSQL's protocol.", &metrics.pg_errors),
        ("influxql_statements_total", "Statements of InfluxQL.", &metrics.influxql_statements),
        ("influxql_failed_total", "Statements of InfluxQL that failed or are none.", &metrics.influxql_failed),
    ] {
        page.counter(&format!("marigram_{name}"), help, counter.get());
    }
    page.histogram("marigram_write_seconds", "From a write to its reply.", &metrics.write_seconds);
    page.histogram("marigram_query_seconds", "From a statement to its first row.", &metrics.query_seconds);
    page.gauge("marigram_queries_in_flight", "Statements until their last row.", metrics.queries_in_flight.get());
    let open = metrics.pg_connections_open.get();
    page.gauge("marigram_pg_connections", "Open connections of PostgreSQL's protocol.", open);
    let waiting = shared.admission.bytes_used();
    page.gauge("marigram_write_inflight_bytes", "Decoded bytes of bodies being stored.", waiting);
    page.gauge("marigram_queries_running", "Statements that run or wait for their turn.", shared.query.running());
    pools(&mut page, &shared.query, connections);
    engine(&mut page, &shared.engine.stats());
    memory(&mut page, &shared.engine);
    page.gauge("marigram_writes_stopped", "1 after a failed sync, else 0.", u8::from(shared.failure().is_some()));
    page.text
}

/// What statements take of the machine.
fn pools(page: &mut Page, query: &QueryEngine, connections: usize) {
    let stats = query.stats();
    page.head("marigram_tasks", "gauge", "Asynchronous tasks that have not ended, of connections and of statements.");
    for (runtime, count) in [("connections", connections as u64), ("statements", stats.tasks)] {
        page.sample("marigram_tasks", &format!("{{runtime=\"{runtime}\"}}"), count);
    }
    page.gauge("marigram_query_memory_bytes", "Memory reserved by running statements.", stats.memory_bytes);
    page.gauge("marigram_query_spill_bytes", "Files that running statements spilled to.", stats.spill_bytes);
    let help = "Statements that somebody stopped, or whose client went.";
    page.counter("marigram_queries_canceled_total", help, stats.canceled);
    let help = "Statements that failed for want of memory or of room to spill.";
    page.counter("marigram_query_memory_failed_total", help, stats.memory_failed);
    let pools = Pool::ALL.map(|pool| (pool.name(), query.pool_stats(pool)));
    let pools = pools.into_iter().chain([("system", query.watch_stats())]);
    type Figure = fn(&PoolStats) -> u64;
    let shown: [(&str, &str, &str, Figure); 4] = [
        ("running", "gauge", "Statements of a pool that run.", |pool| pool.running),
        ("waiting", "gauge", "Statements of a pool that wait for their turn.", |pool| pool.waiting),
        ("started_total", "counter", "Statements that a pool let in.", |pool| pool.started),
        ("refused_total", "counter", "Statements refused with 503 as too many waited.", |pool| pool.refused),
    ];
    for (name, kind, help, value) in shown {
        let name = format!("marigram_query_pool_{name}");
        page.head(&name, kind, help);
        for (pool, stats) in pools.clone() {
            page.sample(&name, &format!("{{pool=\"{pool}\"}}"), value(&stats));
        }
    }
}

/// Who holds how much of `memory_limit`.
fn memory(page: &mut Page, engine: &Engine) {
    let usage = engine.memory().usage();
    type Figure = fn(&MemoryUsage) -> u64;
    let shown: [(&str, &str, Figure); 3] = [
        ("bytes", "Memory held for a use; total: for all of them.", |usage| usage.bytes),
        ("peak_bytes", "The most that was held for a use since the start.", |usage| usage.bytes_peak),
        ("max_bytes", "The most that may be; writes, memtables, pinned and deletes share theirs.", |usage| {
            usage.bytes_max
        }),
    ];
    for (name, help, value) in shown {
        let name = format!("marigram_memory_{name}");
        page.head(&name, "gauge", help);
        for row in &usage {
            let of = row.of.map_or("total", MemoryUse::name);
            page.sample(&name, &format!("{{use=\"{of}\"}}"), value(row));
        }
    }
}

/// What the engine counts.
fn engine(page: &mut Page, stats: &EngineStats) {
    for (name, help, value) in [
        ("storage_rows_written_total", "Rows stored by any road.", stats.rows_written),
        (
            "storage_rows_overwritten_total",
            "Rows that changed an older one of their key, as cuts found.",
            stats.rows_overwritten,
        ),
        ("storage_deletes_erased_total", "Deletes whose rows have left every file.", stats.erasures_ended),
        ("storage_rows_resent_total", "Rows that repeated an older one and were not stored again.", stats.rows_resent),
        ("storage_batches_bounced_total", "Batches encoded again after a cut or a drop.", stats.batches_bounced),
        ("storage_writes_overloaded_total", "Writes refused for want of room in memory.", stats.writes_overloaded),
        ("storage_cuts_total", "Cuts that wrote all memtables out.", stats.cuts),
        ("storage_cuts_failed_total", "Cuts that failed and are tried again.", stats.cuts_failed),
        ("storage_cut_rows_total", "Rows written by cuts.", stats.cut_rows),
        ("storage_cut_bytes_total", "Bytes written by cuts.", stats.cut_bytes),
        ("storage_merges_total", "Compactions that ended well.", stats.merges),
        ("storage_compactions_failed_total", "Compactions that failed.", stats.compactions_failed),
        ("storage_compaction_rows_total", "Rows written by compactions.", stats.compaction_rows),
        ("storage_compaction_read_bytes_total", "Bytes of pages that compactions read.", stats.compaction_bytes_read),
        ("storage_compaction_written_bytes_total", "Bytes that compactions wrote.", stats.compaction_bytes_written),
        (
            "storage_trash_early_bytes_total",
            "Bytes removed from the trash before their time, because the disk was full.",
            stats.trash_early_bytes,
        ),
        ("storage_compaction_paused_ms_total", "How long compactions paused.", stats.compaction_paused_ns / 1_000_000),
        ("storage_replayed_batches_total", "Batches replayed from the log at the start.", stats.replayed_batches),
        ("storage_replayed_rows_total", "Rows replayed from the log at the start.", stats.replayed_rows),
        ("snapshots_expired_total", "Snapshots that were too old or in the way of writes.", stats.snapshots_expired),
        (
            "storage_directories_read_total",
            "Directories and tag columns of segments that were read; each again if it had been dropped.",
            stats.directories_read,
        ),
        (
            "storage_damaged_postings_total",
            "Lookups that found postings of a tag damaged and read the tag's column instead.",
            stats.damaged_postings,
        ),
        ("scrub_bytes_total", "Bytes read again by the scrubber.", stats.scrub_bytes),
        ("scrub_rounds_total", "Times that the scrubber read everything.", stats.scrub_rounds),
        ("wal_syncs_total", "Calls of fdatasync for the log.", stats.wal_syncs),
    ] {
        page.counter(&format!("marigram_{name}"), help, value);
    }
    for (name, help, value) in [
        ("storage_sequence", "The newest visible batch.", stats.sequence),
        ("storage_manifest_edit", "The newest edit of the manifest.", stats.manifest_edit),
        ("storage_starved", "1 while the disk has no space for what the log holds: reads only.", stats.starved),
        ("memtable_bytes", "Recent rows in memory, and their series.", stats.memtable_bytes),
        ("memtable_rows", "Recent rows in memory.", stats.memtable_rows),
        ("memtable_partitions", "Pairs of table and partition in memory.", stats.memtable_partitions),
        ("memtable_series", "Series since the last cut.", stats.memtable_series),
        ("memtables_sealed", "Memtables that are being written out.", stats.memtables_sealed),
        ("compactions_running", "Compactions at work.", stats.compactions_running),
        ("storage_deletes_unerased", "Deletes that were cut and may have left bytes in files.", stats.erasures_open),
        ("segments", "Live segments.", stats.segments),
        ("segments_damaged", "Live segments that the scrubber found damaged.", stats.damaged_segments),
        ("segment_bytes", "Bytes of live segments.", stats.segment_bytes),
        ("segment_rows", "Rows of live segments.", stats.segment_rows),
        ("wal_queue_bytes", "Bytes that wait for the log.", stats.queue_bytes),
        ("wal_used_bytes", "Bytes of the log that are not cut yet.", stats.wal_used_bytes),
        ("wal_bytes_max", "Bytes that the log may take.", stats.wal_bytes_max),
        ("wal_slots", "Files of the log.", stats.wal_slots),
    ] {
        page.gauge(&format!("marigram_{name}"), help, value);
    }
}

/// The text under construction.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.sample(name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let (counts, sum) = histogram.read();
        let ends = BUCKETS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (count, end) in counts.iter().zip(ends) {
            self.sample(&format!("{name}_bucket"), &format!("{{le=\"{end}\"}}"), count);
        }
        self.sample(&format!("{name}_sum"), "", sum);
        self.sample(&format!("{name}_count"), "", counts.last().copied().unwrap_or_default());
    }
}
