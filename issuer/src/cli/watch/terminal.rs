//! The terminal: another screen while it is watched, and the one that was there before afterwards.

use std::io::{self, Write as _};

use jiff::Timestamp;

use super::frame::{Shown, Size, frame};

const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// The other screen; the first one is back when it is dropped.
pub(super) struct Terminal {
    colour: bool,
    drawn: Option<(Size, Vec<String>)>,
}

impl Terminal {
    pub(super) fn open(colour: bool) -> io::Result<Self> {
        let mut out = io::stdout().lock();
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        Ok(Self {
            colour,
            drawn: None,
        })
    }

    /// Draws what there is, if it is something else than what is drawn.
    pub(super) fn draw(&mut self, shown: &Shown, now: Timestamp) -> io::Result<()> {
        let size = size();
        let lines = frame(shown, now, size, self.colour);
        if self.drawn.as_ref() == Some(&(size, lines.clone())) {
            return Ok(());
        }
        let mut text = String::from("\u{1b}[H");
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                text.push_str("\r\n");
            }
            text.push_str(line);
            // Whatever stood there before.
            text.push_str("\u{1b}[K");
        }
        text.push_str("\u{1b}[J");
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        self.drawn = Some((size, lines));
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(LEAVE.as_bytes());
        let _ = out.flush();
    }
}

/// Of the window; a terminal that doesn't tell has 80 by 24.
fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size {
            columns: usize::from(size.ws_col),
            rows: usize::from(size.ws_row),
        },
        _ => Size {
            columns: 80,
            rows: 24,
        },
    }
}
