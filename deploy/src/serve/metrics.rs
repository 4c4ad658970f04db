//! Numbers for Prometheus. Labels are routes of the table, statuses and reasons: their number has a bound, whatever is
//! asked.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds of a request, as ends of buckets.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Rows of a batch.
const ROWS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Route and status.
type Answered = Vec<(&'static str, String)>;

/// What is counted.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Answered, Histogram, fn() -> Histogram>,
    /// Requests that are worked on.
    pub(crate) in_flight: Gauge,
    /// Rows that wait for the network.
    pub(crate) queue: Gauge,
    /// Rows of each run of the network.
    pub(crate) batch: Histogram,
    /// Rows that were not computed: their client was gone, or they had waited too long.
    pub(crate) dropped: Counter,
    /// Refusals that the log of the gallery does not have: there were too many.
    pub(crate) unnoted: Counter,
    /// Connections that are open.
    pub(crate) connections: Gauge,
    /// Changes of the gallery that were committed together.
    pub(crate) commit: Histogram,
    /// Templates that are enrolled.
    pub(crate) templates: Gauge,
    /// Subjects that are enrolled.
    pub(crate) subjects: Gauge,
    memory: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut own = Self {
            registry: Registry::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            queue: Gauge::default(),
            batch: Histogram::new(ROWS),
            dropped: Counter::default(),
            unnoted: Counter::default(),
            connections: Gauge::default(),
            commit: Histogram::new(ROWS),
            templates: Gauge::default(),
            subjects: Gauge::default(),
            memory: Gauge::default(),
        };
        let to = &mut own.registry;
        to.register("vitrine_http_requests", "Requests by route and status", own.requests.clone());
        to.register("vitrine_http_request_seconds", "Time of requests by route", own.seconds.clone());
        to.register("vitrine_in_flight", "Requests that are worked on", own.in_flight.clone());
        to.register("vitrine_queue_depth", "Rows that wait for the network", own.queue.clone());
        to.register("vitrine_batch_size", "Rows of each run of the network", own.batch.clone());
        to.register("vitrine_dropped_rows", "Rows nobody waited for, or that waited too long", own.dropped.clone());
        to.register("vitrine_unnoted_denials", "Refusals too many for the log", own.unnoted.clone());
        to.register("vitrine_connections", "Connections that are open", own.connections.clone());
        to.register("vitrine_commit_size", "Changes committed together", own.commit.clone());
        to.register("vitrine_templates", "Templates that are enrolled", own.templates.clone());
        to.register("vitrine_subjects", "Subjects that are enrolled", own.subjects.clone());
        to.register("process_resident_memory_bytes", "Memory of the process", own.memory.clone());
        own
    }

    /// Counts an answer. The route is one of the table, or `other`.
    pub(crate) fn answered(&self, route: &str, status: u16, seconds: f64) {
        let (route, status) = (("route", route.to_owned()), ("status", status.to_string()));
        self.seconds.get_or_create(&vec![route.clone()]).observe(seconds);
        self.requests.get_or_create(&vec![route, status]).inc();
    }

    /// Everything in the text format.
    pub(crate) fn text(&self) -> String {
        if let Some(bytes) = resident() {
            self.memory.set(bytes);
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Bytes of memory of this process, where the system tells.
fn resident() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_written() {
        let metrics = Metrics::new();
        metrics.answered("/v1/search", 200, 0.004);
        metrics.answered("/v1/search", 200, 3.0);
        metrics.answered("other", 404, 0.1);
        metrics.batch.observe(3.0);
        metrics.templates.set(7);
        let text = metrics.text();
        for line in [
            "vitrine_http_requests_total{route=\"/v1/search\",status=\"200\"} 2",
            "vitrine_http_requests_total{route=\"other\",status=\"404\"} 1",
            "vitrine_http_request_seconds_bucket{le=\"0.005\",route=\"/v1/search\"} 1",
            "vitrine_http_request_seconds_count{route=\"/v1/search\"} 2",
            "vitrine_batch_size_bucket{le=\"4.0\"} 1",
            "vitrine_templates 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
