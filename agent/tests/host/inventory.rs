//! What `certwell-agent inventory` tells of a host.

use std::fs;

use super::{
    fleet::self_signed,
    host::NAME,
    lineage::{adopting, lay_out},
};

#[tokio::test]
async fn what_a_terminal_would_obey_in_a_name_is_shown_and_not_sent_to_it() {
    let host = adopting(NAME).await;
    let (certificate, key) = self_signed(NAME, (-3_600, 86_400));
    let evil = "evil\u{1b}[2J\n  ! no";
    lay_out(&host.certbot(), evil, &certificate, &key);
    fs::remove_file(host.certbot().join("live").join(evil).join("privkey.pem")).unwrap();
    let (code, told) = host.verb(&["inventory"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains('\u{1b}'), "{told}");
    let shown = "evil\\u{1b}[2J\\n  ! no/privkey.pem is gone";
    assert!(told.contains(shown), "{told}");
}
