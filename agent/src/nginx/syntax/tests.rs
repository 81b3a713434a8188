//! Dumps as nginx prints them, whole and broken.

use super::*;
use proptest::prelude::*;

fn read(dump: &str) -> Tree<'_> {
    Tree::parse(dump, Path::new("/"))
}

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
    let tree = read(dump);
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
    let tree = read(dump);
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
    assert_eq!(names(&read(dump).top()), ["a 1", "b 2"]);
}

#[test]
fn a_file_that_includes_itself_ends() {
    let tree = read("# configuration file /n.conf:\na 1;\ninclude /n.conf;\n");
    assert_eq!(tree.top().len(), INCLUDE_DEPTH + 1);
}

#[test]
fn hostile_nesting_is_passed_over() {
    for name in ["a", "http", "if", ""] {
        let dump = format!(
            "# configuration file /n.conf:\ninclude x;\n{}\n# configuration file /x:\nb 1;\n",
            format!("{name} {{").repeat(100_000)
        );
        let tree = read(&dump);
        assert_eq!(tree.warnings.len(), 1, "{name}");
        assert_eq!(names(&tree.top())[0], "b 1", "{name}");
    }
}

#[test]
fn one_file_under_two_spellings_is_one_file_and_takes_nothing_along() {
    let dump = "# configuration file /e/n.conf:\nhttp { include s//*; server { include ./s/a; } }\n\n\
        # configuration file /e/s//a:\na 1;\n\n# configuration file /e/./s/a:\na 1;\n\n";
    let tree = read(dump);
    let http = tree.top()[0];
    assert_eq!(names(&tree.inside(http)), ["a 1", "server "]);
    let server = tree.inside(http)[1];
    assert_eq!(names(&tree.inside(server)), ["a 1"]);
    assert_eq!(tree.files.len(), 2);
}

#[test]
fn directories_of_a_glob_are_in_the_order_of_bytes() {
    // `-` and `.` come before the slash.
    let dump = "# configuration file /e/n.conf:\ninclude s/*/*.conf;\n\n\
        # configuration file /e/s/a-b/x.conf:\nfirst 1;\n\n# configuration file /e/s/a.b/x.conf:\nsecond 1;\n\n\
        # configuration file /e/s/a/x.conf:\nthird 1;\n\n";
    assert_eq!(names(&read(dump).top()), ["first 1", "second 1", "third 1"]);
}

#[test]
fn what_looks_like_a_header_inside_a_file_cuts_nothing() {
    // Somebody put a configuration together out of another host's dump.
    let dump = "# configuration file /e/n.conf:\nhttp {\n# configuration file /e/mime.types:\n types { }\n\
        # configuration file /e/s/old:\n a 1;\n include s/*;\n include mime.types;\n}\n\n\
        # configuration file /e/s/x:\n# configuration file /e/y:\nb 1;\n\n\
        # configuration file /e/mime.types:\nc 1;\n\n";
    let tree = read(dump);
    assert!(tree.warnings.is_empty(), "{:?}", tree.warnings);
    let http = tree.top()[0];
    assert_eq!(names(&tree.inside(http)), ["types ", "a 1", "b 1", "c 1"]);
}

#[test]
fn a_relative_prefix_is_relative_to_nginx_s_own_directory() {
    let dump =
        "# configuration file ./n.conf:\ninclude s/*;\n\n# configuration file ./s/a:\na 1;\n\n";
    let tree = Tree::parse(dump, Path::new("/srv"));
    assert_eq!(names(&tree.top()), ["a 1"]);
    assert_eq!(
        tree.paths(),
        [Path::new("/srv/n.conf"), Path::new("/srv/s/a")]
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(?s)[a-z{};#\"'$\\\\ \n\r]{0,200}|\\PC{0,200}") {
        let text = format!("# configuration file /n.conf:\n{text}");
        let tree = read(&text);
        for effective in tree.top() {
            let _ = tree.inside(effective);
        }
        let _ = read(text.strip_prefix("# configuration file /n.conf:\n").unwrap_or_default());
    }
}
