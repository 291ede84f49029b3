//! Numbers of the HTTP surface. Labels are route templates, methods and statuses: never an instance, never a tenant,
//! so their count does not grow with use.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Bounds of the duration histogram, in seconds. The create target (20 ms) is one of them.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    pub(crate) in_flight: IntGauge,
    pub(crate) streams: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let valid = "names and labels are constants that a test reads back";
        let requests = Opts::new("http_requests_total", "Requests answered.");
        let durations =
            HistogramOpts::new("http_request_duration_seconds", "Time from a request's head to its answer's head.");
        let metrics = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(requests, &["route", "method", "status"]).expect(valid),
            durations: HistogramVec::new(durations.buckets(BUCKETS.to_vec()), &["route", "method"]).expect(valid),
            in_flight: IntGauge::new("http_requests_in_flight", "Requests being answered.").expect(valid),
            streams: IntGauge::new("http_streams_open", "Waits and streams that are open.").expect(valid),
        };
        for collector in [
            Box::new(metrics.requests.clone()) as Box<dyn prometheus::core::Collector>,
            Box::new(metrics.durations.clone()),
            Box::new(metrics.in_flight.clone()),
            Box::new(metrics.streams.clone()),
        ] {
            metrics.registry.register(collector).expect(valid);
        }
        metrics
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[route, method, &status.to_string()]).inc();
        self.durations.with_label_values(&[route, method]).observe(took.as_secs_f64());
    }

    /// All numbers in the Prometheus text format.
    pub(crate) fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let metrics = Metrics::new();
        metrics.answered("/v1/projects/{project}/instances", "POST", 201, Duration::from_millis(3));
        let text = metrics.text().unwrap();
        let line = "http_requests_total{method=\"POST\",route=\"/v1/projects/{project}/instances\",status=\"201\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("http_request_duration_seconds_bucket"), "{text}");
    }
}
