//! Whether the post-install hook is to run for a certificate.

/// What is known of one certificate.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The generation that is active; 0 for the placeholder, nothing where another hand's lies there.
    pub active: Option<u64>,
    /// The generation whose last install converged.
    pub converged: Option<u64>,
    /// The last run.
    pub last: Option<Last<'a>>,
    /// The hook's file as it is now.
    pub file: &'a str,
}

/// A run that ended.
#[derive(Debug, Clone, Copy)]
pub struct Last<'a> {
    /// For which generation.
    pub generation: u64,
    /// Whether it failed.
    pub failed: bool,
    /// The hook's file as it was then.
    pub file: &'a str,
}

/// For which generation, if for any: once for each that is proven to be served, and once more after a failure when the
/// file was changed.
pub fn due(facts: &Facts<'_>) -> Option<u64> {
    let generation = facts.active.filter(|active| *active > 0)?;
    if facts.converged != Some(generation) {
        return None;
    }
    let done = facts.last.is_some_and(|last| {
        let mended = last.failed && last.file != facts.file;
        last.generation == generation && !mended
    });
    (!done).then_some(generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_once_for_each_generation_that_is_served() {
        let last = |generation, failed, file| {
            Some(Last {
                generation,
                failed,
                file,
            })
        };
        let table = [
            (Some(7), Some(7), None, Some(7)),
            (Some(7), Some(7), last(6, false, "a"), Some(7)),
            (Some(7), Some(7), last(6, true, "a"), Some(7)),
            (Some(7), Some(7), last(7, false, "a"), None),
            // A hook that was changed since doesn't run again for what it has seen …
            (Some(7), Some(7), last(7, false, "b"), None),
            // … unless it failed.
            (Some(7), Some(7), last(7, true, "a"), None),
            (Some(7), Some(7), last(7, true, "b"), Some(7)),
            // Back at an older one, whose files it is to be told of.
            (Some(6), Some(6), last(7, false, "a"), Some(6)),
            // Not proven.
            (Some(7), None, None, None),
            (Some(7), Some(6), None, None),
            // The placeholder, and another hand's.
            (Some(0), Some(0), None, None),
            (None, Some(7), None, None),
        ];
        for (active, converged, last, expected) in table {
            let facts = Facts {
                active,
                converged,
                last,
                file: "a",
            };
            assert_eq!(due(&facts), expected, "{facts:?}");
        }
    }
}
