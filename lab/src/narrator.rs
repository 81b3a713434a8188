//! What the demo says: lines that stay and, on a terminal, one that shows what is going on now.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

/// Speaks for one run.
#[derive(Debug, Clone)]
pub(crate) struct Narrator {
    bar: ProgressBar,
    start: Instant,
}

impl Narrator {
    /// A line of progress is shown on a terminal only.
    pub(crate) fn new() -> Self {
        let bar = if std::io::stdout().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        } else {
            ProgressBar::hidden()
        };
        Self {
            bar,
            start: Instant::now(),
        }
    }

    /// The title of an act.
    pub(crate) fn act(&self, title: &str) {
        self.print(&format!("\n== {title}"));
    }

    /// A line with the seconds since the start.
    pub(crate) fn tell(&self, line: &str) {
        self.print(&format!(
            "{:6.1}s  {line}",
            self.start.elapsed().as_secs_f32()
        ));
    }

    /// Text as it is.
    pub(crate) fn print(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// What goes on now.
    pub(crate) fn doing(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// No more progress.
    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}
