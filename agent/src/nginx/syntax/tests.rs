//! Dumps as nginx prints them, whole and broken.

use super::*;
use proptest::prelude::*;

fn names(effective: &[Effective<'_>]) -> Vec<String> {
    effective
        .iter()
        .map(|e| format!("{} {}", e.directive.name, e.directive.args.join(" ")))
        .collect()
}

#[test]
fn includes_are_resolved_in_context_and_in_the_order_of_glob() {
    let dump = "# configuration file /etc/nginx/nginx.conf:\nhttp {\n  include conf.d/*.conf;\n  include /etc/nginx/mime.types;\n}\n\n\
        # configuration file /etc/nginx/conf.d/b.conf:\nb 1;\n\n\
        # configuration file /etc/nginx/conf.d/a.conf:\na 1;\ninclude deep/./x;\n\n\
        # configuration file /etc/nginx/deep/x:\nx $host:8$port \"q\\\"d\";\n\n\
        # configuration file /etc/nginx/mime.types:\ntypes { text/html html; }\n";
    let tree = Tree::parse(dump);
    assert!(tree.warnings.is_empty(), "{:?}", tree.warnings);
    let top = tree.top();
    let inside = tree.inside(top[0]);
    assert_eq!(
        names(&inside),
        ["a 1", "x $host:8$port q\"d", "b 1", "types "]
    );
    assert_eq!(inside[1].place().to_string(), "/etc/nginx/deep/x:1");
    assert_eq!(inside[1].entry().to_string(), "/etc/nginx/nginx.conf:2");
    assert_eq!(tree.paths()[0], Path::new("/etc/nginx/nginx.conf"));
}

#[test]
fn a_damaged_file_costs_itself_alone() {
    let dump = "# configuration file /n.conf:\ninclude /bad; include /good;\n\n\
        # configuration file /bad:\nfirst 1;\n}}\nsecond 2\n\n# configuration file /good:\nthird 3;\r\nfourth 4;\r\n";
    let tree = Tree::parse(dump);
    let names = names(&tree.top());
    assert!(
        names.contains(&"first 1".into()) && names.contains(&"third 3".into()),
        "{names:?}"
    );
    assert!(names.contains(&"fourth 4".into()), "{names:?}");
    assert_eq!(tree.warnings.len(), 1);
    assert!(
        tree.warnings[0].starts_with("/bad:2: "),
        "{:?}",
        tree.warnings
    );
}

#[test]
fn a_header_inside_a_comment_does_not_cut_a_file_seen_before() {
    let dump = "# configuration file /n.conf:\na 1;\n# configuration file /n.conf:\nb 2;\n";
    assert_eq!(names(&Tree::parse(dump).top()), ["a 1", "b 2"]);
}

#[test]
fn a_file_that_includes_itself_ends() {
    let tree = Tree::parse("# configuration file /n.conf:\na 1;\ninclude /n.conf;\n");
    assert_eq!(tree.top().len(), INCLUDE_DEPTH + 1);
}

#[test]
fn hostile_nesting_is_passed_over() {
    let dump = format!("# configuration file /n.conf:\n{}", "a {".repeat(100_000));
    let tree = Tree::parse(&dump);
    assert!(tree.top().is_empty() && tree.warnings.len() == 1);
    let dump = format!(
        "# configuration file /n.conf:\n{}{}",
        "a {".repeat(BLOCK_DEPTH),
        "}".repeat(BLOCK_DEPTH)
    );
    assert_eq!(Tree::parse(&dump).top().len(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(?s)[a-z{};#\"'$\\\\ \n\r]{0,200}|\\PC{0,200}") {
        let tree = Tree::parse(&format!("# configuration file /n.conf:\n{text}"));
        for effective in tree.top() {
            let _ = tree.inside(effective);
        }
        let _ = Tree::parse(&text);
    }
}
