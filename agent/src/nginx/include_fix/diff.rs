//! A proposal, as people read it.

use similar::TextDiff;

use super::Change;

/// Unified, each file by its path.
pub fn unified(changes: &[Change]) -> String {
    let mut text = String::new();
    for Change {
        path,
        before,
        after,
    } in changes
    {
        let old = String::from_utf8_lossy(before.as_deref().unwrap_or_default());
        let new = String::from_utf8_lossy(after);
        let path = path.display().to_string();
        let from = if before.is_some() { &path } else { "/dev/null" };
        let diff = TextDiff::from_lines(&*old, &*new);
        text.push_str(&diff.unified_diff().header(from, &path).to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_shown_with_what_surrounds_the_change() {
        let changed = Change {
            path: "/n/a".into(),
            before: Some(b"1\n2\n3\n4\n5\n".to_vec()),
            after: b"1\n2\n3\n4\nx\n5\n".to_vec(),
        };
        let new = Change {
            path: "/n/b".into(),
            before: None,
            after: b"y\n".to_vec(),
        };
        assert_eq!(
            unified(&[changed, new]),
            "--- /n/a\n+++ /n/a\n@@ -2,4 +2,5 @@\n 2\n 3\n 4\n+x\n 5\n--- /dev/null\n+++ /n/b\n@@ -0,0 +1 @@\n+y\n"
        );
    }
}
