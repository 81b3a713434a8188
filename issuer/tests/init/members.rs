//! Who may use the admin socket, by the machine's own list of groups: on an issuer that has a list of its own mounted,
//! which takes root.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command},
    time::Duration,
};

use certwell_proto::Exit;

use super::fleet::*;

const GROUP: u32 = 4_999;

/// An issuer that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn check_and_serve_refuse_an_admin_group_that_does_not_exist() {
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    fleet.set(
        "#admin-group = \"certwell\"",
        "admin-group = \"no-such-group-here\"",
    );
    for verb in ["check", "serve"] {
        let stderr = ended(&fleet.run(&[verb]), Exit::Configuration);
        assert!(
            stderr.contains("there is no group \"no-such-group-here\" (admin-group); create it"),
            "{verb}: {stderr}"
        );
    }
}

#[test]
fn whoever_is_added_to_the_group_certwell_is_let_in_without_a_restart() {
    if !nix::unistd::geteuid().is_root() {
        let loud = b"\nSKIPPED: who is let in by the group certwell; a list of groups is mounted only by root\n";
        std::io::stderr().write_all(loud).unwrap();
        return;
    }
    let fleet = Fleet::new();
    let socket = fleet.path("admin.sock");
    let of_socket = ["--admin-socket", socket.to_str().unwrap()];
    ended(&fleet.init_with(&of_socket), Exit::Done);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let listen = format!("listen = [\"{}\"]", free.unwrap());
    fleet.set("listen = [\"127.0.0.1:7443\"]", &listen);
    fs::set_permissions(fleet.path(""), fs::Permissions::from_mode(0o711)).unwrap();
    let certwell = fleet.path("certwell");
    copy_program(env!("CARGO_BIN_EXE_certwell"), &certwell);
    let groups = fleet.path("group");
    fs::copy("/etc/group", &groups).unwrap();
    let mut list = OpenOptions::new().append(true).open(&groups).unwrap();
    // Mounted where the issuer sees it, and nobody else.
    writeln!(list, "certwell:x:{GROUP}:").unwrap();
    let issuer = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-ec",
            "mount --bind \"$1\" /etc/group; shift; exec \"$@\"",
            "-",
        ])
        .arg(&groups)
        .arg(env!("CARGO_BIN_EXE_certwell-issuer"))
        .arg("--config")
        .arg(fleet.path("etc/issuer.toml"))
        .arg("serve")
        .spawn()
        .unwrap();
    let _issuer = Running(issuer);
    // `daemon` is a user of every Debian system; his new login has the group, of which the kernel doesn't tell.
    let asks = || {
        Command::new("setpriv")
            .args([
                "--reuid=daemon",
                "--regid=daemon",
                &format!("--groups={GROUP}"),
            ])
            .arg(&certwell)
            .arg("--socket")
            .arg(&socket)
            .arg("status")
            .output()
            .unwrap()
    };
    let mut answer = asks();
    for _ in 0..200 {
        if answer.status.code() != Some(5) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        answer = asks();
    }
    let stderr = ended(&answer, Exit::Denied);
    assert!(
        stderr.contains("the group that admin-group names"),
        "{stderr}"
    );
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o660
    );

    let text = fs::read_to_string(&groups).unwrap();
    let text = text.replace(
        &format!("certwell:x:{GROUP}:"),
        &format!("certwell:x:{GROUP}:daemon"),
    );
    fs::write(&groups, text).unwrap();
    ended(&asks(), Exit::Done);
}
