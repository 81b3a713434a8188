//! Sites as the makers of well-known applications lay them out.

use crate::{fixture, shape::Shape};

async fn check(mut shape: Shape, listeners: &[&str], challenges: &[&str]) {
    shape.host.start().await;
    assert_eq!(shape.listeners().await, listeners);
    assert_eq!(shape.challenges(), challenges);
}

#[tokio::test]
async fn a_social_site_with_its_media() {
    let shape = Shape::new(&["social.example.org", "media.example.org"]);
    shape.file("sites/social", fixture!("mastodon/site"));
    check(
        shape,
        &[
            "social.example.org | ADDRESS:8443 social.example.org | serves social.example.org",
            "media.example.org | ADDRESS:8443 media.example.org | serves media.example.org",
        ],
        &[
            "sites/social:15 | sites/social:18",
            // Inside a location it comes later than the include would.
            "sites/social:59 | none",
        ],
    )
    .await;
}

#[tokio::test]
async fn tuned_snippets_within_snippets() {
    let shape = Shape::new(&["example.com"]);
    shape
        .file("conf.d/10-tuning.conf", fixture!("h5bp/http.conf"))
        .file("conf.d/20-sites.conf", fixture!("h5bp/sites.conf"))
        .file("conf.d/.hidden.conf", "this is no configuration")
        .file("tuning/tls/files.conf", fixture!("h5bp/tls/files.conf"))
        .file("tuning/tls/engine.conf", fixture!("h5bp/tls/engine.conf"))
        .file("tuning/basic.conf", fixture!("h5bp/basic.conf"))
        .file(
            "tuning/policies.conf",
            "add_header X-Policy $policy always;\n",
        );
    check(
        shape,
        &[
            // The default server has no name: a name that nobody has leads to it, or none.
            "example.com | ADDRESS:8443 - | serves example.com",
            "example.com | ADDRESS:8443 www.example.com | serves example.com",
            "example.com | ADDRESS:8443 example.com | serves example.com",
        ],
        &["conf.d/20-sites.conf:2 | none after conf.d/20-sites.conf:5"],
    )
    .await;
}

#[tokio::test]
async fn a_cloud_behind_a_redirect_of_the_whole_server() {
    let shape = Shape::new(&["cloud.example.org"]);
    shape.file("sites/cloud", fixture!("nextcloud/site"));
    check(
        shape,
        &["cloud.example.org | ADDRESS:8443 cloud.example.org | serves cloud.example.org"],
        &["sites/cloud:9 | none after sites/cloud:14"],
    )
    .await;
}

#[tokio::test]
async fn a_forum_put_together_from_outlets() {
    let shape = Shape::new(&["forum.example.org"]);
    shape
        .file("conf.d/forum.conf", fixture!("discourse/site.conf"))
        .file(
            "outlets/before-server/20-redirect.conf",
            fixture!("discourse/redirect.conf"),
        )
        .file("outlets/server/10-http.conf", "")
        .file(
            "outlets/server/20-https.conf",
            fixture!("discourse/https.conf"),
        );
    check(
        shape,
        &["forum.example.org | ADDRESS:8443 forum.example.org | serves forum.example.org"],
        &["outlets/before-server/20-redirect.conf:1 | none after outlets/before-server/20-redirect.conf:4"],
    )
    .await;
}

#[tokio::test]
async fn a_forge_with_its_registry() {
    let shape = Shape::new(&["git.example.org", "registry.example.org"]);
    shape.file("conf.d/forge.conf", fixture!("gitlab/http.conf"));
    check(
        shape,
        &[
            "git.example.org | ADDRESS:8443 git.example.org | serves git.example.org",
            "registry.example.org | ADDRESS:5050 registry.example.org | serves registry.example.org",
        ],
        &["conf.d/forge.conf:10 | conf.d/forge.conf:14"],
    )
    .await;
}
