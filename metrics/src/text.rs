//! The text format: a HELP and a TYPE line for each family, then its samples.

use std::fmt::Write as _;

use crate::timings::{BUCKETS, Histogram};

/// What the answer is called in HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises while the process lives.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A whole answer, as it is put together.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Begins a family; its samples follow before the next one begins.
    pub fn family(&mut self, name: &'static str, help: &str, kind: Kind) -> Family<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.0, "# HELP {name} {help}");
        let _ = writeln!(self.0, "# TYPE {name} {}", kind.word());
        Family {
            text: &mut self.0,
            name,
        }
    }

    /// A family of gauges.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Gauge)
    }

    /// A family of counters; its name ends with `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Counter)
    }

    /// A family of histograms.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Histogram)
    }

    /// The answer.
    pub fn finish(self) -> String {
        self.0
    }
}

/// Label names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// Where the samples of one family go.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, None, value);
    }

    /// One sample without labels, or none.
    pub fn samples(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sample(&[], value);
        }
    }

    /// One histogram.
    pub fn buckets(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let mut below = 0;
        for (limit, count) in BUCKETS.iter().zip(&histogram.counts) {
            below += count;
            self.line("_bucket", labels, Some(&limit.to_string()), below as f64);
        }
        let count = histogram.count() as f64;
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, histogram.sum);
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, le: Option<&str>, value: f64) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        let all = labels.iter().copied().chain(le.map(|le| ("le", le)));
        for (at, (name, value)) in all.enumerate() {
            let begin = if at == 0 { '{' } else { ',' };
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.text, "{begin}{name}=\"{value}\"");
        }
        if !labels.is_empty() || le.is_some() {
            self.text.push('}');
        }
        let _ = if value == f64::INFINITY {
            writeln!(self.text, " +Inf")
        } else {
            writeln!(self.text, " {value}")
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        let mut family = page.gauge("a_seconds", "One \\ two\nthree.");
        family.sample(&[], 1_800_000_000.0);
        family.sample(&[("name", "a\"b\\c\nd"), ("host", "sally")], 0.5);
        page.counter("b_total", "Four.").sample(&[], f64::INFINITY);
        assert_eq!(
            page.finish(),
            "# HELP a_seconds One \\\\ two\\nthree.\n# TYPE a_seconds gauge\na_seconds 1800000000\n\
             a_seconds{name=\"a\\\"b\\\\c\\nd\",host=\"sally\"} 0.5\n\
             # HELP b_total Four.\n# TYPE b_total counter\nb_total +Inf\n"
        );
    }

    #[test]
    fn buckets_add_up() {
        let mut histogram = Histogram::default();
        for ms in [1, 5, 6, 70_000_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut page = Page::default();
        page.histogram("a_seconds", "One.")
            .buckets(&[("step", "fetch")], &histogram);
        let text = page.finish();
        for line in [
            "a_seconds_bucket{step=\"fetch\",le=\"0.005\"} 2",
            "a_seconds_bucket{step=\"fetch\",le=\"0.01\"} 3",
            "a_seconds_bucket{step=\"fetch\",le=\"600\"} 3",
            "a_seconds_bucket{step=\"fetch\",le=\"+Inf\"} 4",
            "a_seconds_sum{step=\"fetch\"} 70000.012",
            "a_seconds_count{step=\"fetch\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
