//! This process, as the kernel counts it.

use std::{
    fs,
    sync::{Mutex, PoisonError},
};

use rustix::time::{ClockId, clock_gettime};

use crate::Page;

/// Ticks in a second, as the kernel tells times to programs on every machine that Debian has.
const TICKS: f64 = 100.0;

/// When this process started, in seconds since the Unix epoch, as it was last told.
static STARTED: Mutex<Option<f64>> = Mutex::new(None);
/// Clocks are adjusted by less.
const STEP: f64 = 5.0;

/// The same in each answer, for a change of it is taken for a restart; unless the clock was set.
fn steady(started: f64) -> f64 {
    let mut last = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let told = last.filter(|told| (told - started).abs() < STEP);
    *last.insert(told.unwrap_or(started))
}

fn clock(which: ClockId) -> f64 {
    let time = clock_gettime(which);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Writes the families that every exporter calls so; what can't be read is left out.
pub fn write(page: &mut Page) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    // Numbered as proc(5) does: the state is the third.
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let number = line.split_whitespace().next()?.parse::<f64>().ok()?;
        Some(number * 1024.0)
    };
    let cpu = field(14)
        .zip(field(15))
        .map(|(user, system)| (user + system) / TICKS);
    // Not by /proc/stat, which isn't there in a unit with ProcSubset=pid.
    let booted = clock(ClockId::Realtime) - clock(ClockId::Boottime);
    let started = field(22).map(|ticks| steady(booted + ticks / TICKS));
    let open = fs::read_dir("/proc/self/fd")
        .ok()
        .map(|open| open.count() as f64);
    let limit = fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("Max open files"))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        });
    page.counter(
        "process_cpu_seconds_total",
        "Processor time that this process took, in seconds.",
    )
    .samples(cpu);
    for (name, help, value) in [
        (
            "process_start_time_seconds",
            "When this process started, in seconds since the Unix epoch.",
            started,
        ),
        (
            "process_resident_memory_bytes",
            "Memory of this process that is resident, in bytes.",
            kibibytes("VmRSS:"),
        ),
        (
            "process_virtual_memory_bytes",
            "Address space of this process, in bytes.",
            kibibytes("VmSize:"),
        ),
        (
            "process_open_fds",
            "File descriptors that this process has open.",
            open,
        ),
        (
            "process_max_fds",
            "File descriptors that this process may have open.",
            limit,
        ),
    ] {
        page.gauge(name, help).samples(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_this_process_is_there_and_can_be() {
        let mut page = Page::default();
        write(&mut page);
        let text = page.finish();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().parse().unwrap()
        };
        let mebibyte = 1024.0 * 1024.0;
        assert!((mebibyte..1e12).contains(&value("process_resident_memory_bytes ")));
        assert!(value("process_virtual_memory_bytes ") >= value("process_resident_memory_bytes "));
        assert!((3.0..=value("process_max_fds ")).contains(&value("process_open_fds ")));
        let age = clock(ClockId::Realtime) - value("process_start_time_seconds ");
        assert!((-1.0..600.0).contains(&age), "{age} s");
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        let mut later = Page::default();
        write(&mut later);
        let starts = |text: &str| -> Vec<String> {
            let lines = text.lines();
            let lines = lines.filter(|line| line.starts_with("process_start_time_seconds "));
            lines.map(ToOwned::to_owned).collect()
        };
        assert_eq!(starts(&later.finish()), starts(&text));
        let told = steady(value("process_start_time_seconds "));
        assert!((steady(told + 1.0) - told).abs() < 0.001, "adjusted");
        assert!((steady(told + 3_600.0) - told) > 3_000.0, "set");
    }
}
