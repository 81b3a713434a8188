//! Adopting, and giving back, while an operator edits nginx's configuration: a reload would load it half-done.

use std::fs;

use super::{
    adopt::refused,
    faults::reloaded,
    host::NAME,
    lineage::{Adopting, adopting, tree},
};

/// An operator adds a line and hasn't reloaded nginx yet.
async fn edit(host: &Adopting) {
    host.world.host.settled_workers().await;
    host.world.host.workers_are_older_than_edits().await;
    let path = host.world.host.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}# half\n")).unwrap();
}

const WORDS: [&str; 3] = [
    "nginx.conf was changed after nginx began to serve",
    "an edit seems to be in progress",
    "reload nginx",
];

#[tokio::test]
async fn an_edit_in_progress_is_loaded_neither_by_adopting_nor_by_giving_back() {
    let host = adopting(NAME).await;
    edit(&host).await;
    let workers = host.world.host.workers();
    refused(&host, &[NAME], 8, &WORDS).await;
    assert_eq!(host.world.host.workers(), workers, "no reload");
    reloaded(&host.world.host).await;
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");

    edit(&host).await;
    let (before, workers) = (tree(&host.certbot()), host.world.host.workers());
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(code, 8, "{told}");
    assert!(WORDS.iter().all(|word| told.contains(word)), "{told}");
    assert_eq!(tree(&host.certbot()), before);
    assert_eq!(host.world.host.workers(), workers, "no reload");
    assert_eq!(host.served(), Some(host.ours));
    reloaded(&host.world.host).await;
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.served(), Some(host.theirs));
}

#[tokio::test]
async fn a_broken_lineage_beside_an_edit_is_mended_on_disk_and_the_reload_left_to_the_operator() {
    let host = adopting(NAME).await;
    edit(&host).await;
    let workers = host.world.host.workers();
    fs::remove_file(host.certbot().join(format!("archive/{NAME}/privkey1.pem"))).unwrap();
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 3, "{told}");
    assert!(
        told.contains("adopted on disk") && told.contains(WORDS[0]),
        "{told}"
    );
    assert!(host.nginx_takes_it());
    assert_eq!(host.world.host.workers(), workers, "no reload");
    reloaded(&host.world.host).await;
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.served(), Some(host.ours));
}
