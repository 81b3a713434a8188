//! Directories in which another user could read or exchange a key: refused, with the command that mends it, and
//! nothing that is served is touched.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use certwell_proto::v1;

use crate::{
    faults::{hold::held, live::refuses_to_run, problems, serves, status_says},
    host::{Host, NAME},
    quiet::settled,
    world::serving,
};

/// Some user and group of no account.
const STRANGER: u32 = 12_345;

/// One directory, how it is spoilt, and the remedy.
struct Case {
    directory: &'static str,
    spoil: Spoil,
    /// The agent sets the mode of what is its own when it starts.
    mended_by_a_start: bool,
}

#[derive(Debug, Clone, Copy)]
enum Spoil {
    Owner,
    Everybody,
    Group,
}

const CASES: [Case; 12] = [
    case("live", Spoil::Owner),
    case("live", Spoil::Everybody),
    case("live", Spoil::Group),
    case("state", Spoil::Owner),
    own("state", Spoil::Everybody),
    own("state", Spoil::Group),
    case("state/store", Spoil::Owner),
    own("state/store", Spoil::Everybody),
    // Above both, as `/etc/certwell` is above the live directory.
    case("", Spoil::Owner),
    case("", Spoil::Everybody),
    case("", Spoil::Group),
    own("state/store", Spoil::Group),
];

const fn case(directory: &'static str, spoil: Spoil) -> Case {
    Case {
        directory,
        spoil,
        mended_by_a_start: false,
    }
}

const fn own(directory: &'static str, spoil: Spoil) -> Case {
    Case {
        mended_by_a_start: true,
        ..case(directory, spoil)
    }
}

impl Case {
    fn path(&self, host: &Host) -> PathBuf {
        let path = host.path(self.directory);
        // Without the slash that an empty name leaves.
        path.components().collect()
    }

    /// Returns what undoes it, as a person would by the remedy.
    fn spoil(&self, path: &Path) -> impl FnOnce() + use<> {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        match self.spoil {
            Spoil::Owner => chown(path, Some(STRANGER), None).unwrap(),
            Spoil::Everybody => set(path, mode | 0o002),
            Spoil::Group => {
                chown(path, None, Some(STRANGER)).unwrap();
                set(path, mode | 0o020);
            }
        }
        let path = path.to_owned();
        move || {
            chown(&path, Some(0), Some(0)).unwrap();
            set(&path, mode & 0o7755);
        }
    }

    fn words(&self, path: &Path) -> [String; 2] {
        let path = path.display();
        match self.spoil {
            Spoil::Owner => [
                format!("{path} belongs to user {STRANGER}"),
                format!("chown root {path}"),
            ],
            Spoil::Everybody => [
                format!("{path} can be written by everybody"),
                format!("chmod o-w {path}"),
            ],
            Spoil::Group => [
                format!("{path} can be written by group {STRANGER}"),
                format!("chmod g-w {path}"),
            ],
        }
    }

    fn what(&self) -> String {
        format!("{:?} of {:?}", self.spoil, self.directory)
    }
}

fn may_change_owners() -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    if !root {
        crate::world::skipped("owners can't be changed here, which takes root");
    }
    root
}

#[tokio::test]
async fn a_directory_that_turns_untrustworthy_holds_the_renewal_until_it_is_mended() {
    if !may_change_owners() {
        return;
    }
    let (world, _) = serving().await;
    let host = &world.host;
    for (generation, case) in (2..).zip(&CASES) {
        let what = case.what();
        let path = case.path(host);
        let before = host.served();
        settled(host).await;
        let mend = case.spoil(&path);
        let ours = world.bundle(generation);
        world.offer(&ours);
        let [problem, remedy] = case.words(&path);
        let report = held(&world, generation, &problem).await;
        assert!(
            report.problem.contains(&remedy),
            "{what}: {}",
            report.problem
        );
        status_says(host, &[&problem, &remedy]).await;
        assert_eq!(host.active(), (generation - 1).to_string(), "{what}");
        assert!(
            !host.staged().contains(&generation.to_string()),
            "{what}: a key was put there"
        );
        assert_eq!(host.served(), before, "{what}");
        mend();
        world.outcome(generation, v1::Outcome::Converged).await;
        serves(&world, &ours).await;
    }
    eprintln!("untrustworthy while the agent runs: {} cases", CASES.len());
}

#[tokio::test]
async fn the_agent_does_not_start_on_what_it_cannot_trust_and_status_says_why() {
    if !may_change_owners() {
        return;
    }
    let (mut world, first) = serving().await;
    world.host.end_agent().await;
    let host = &world.host;
    let mut refused = 0;
    for case in CASES.iter().filter(|case| !case.mended_by_a_start) {
        let what = case.what();
        let path = case.path(host);
        let mend = case.spoil(&path);
        let output = refuses_to_run(host);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{what}: {said}");
        for words in case.words(&path) {
            assert!(said.contains(&words), "{what}: {said}");
            assert!(
                problems(host)[0].contains(&words),
                "{what}: {:?}",
                problems(host)
            );
        }
        serves(&world, &first).await;
        mend();
        refused += 1;
    }
    // Somebody else's link on the way, where everybody may make one.
    let shared = host.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    let theirs = shared.join("live");
    symlink(host.path("live"), &theirs).unwrap();
    std::os::unix::fs::lchown(&theirs, Some(STRANGER), None).unwrap();
    let config = host.path("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    let other = text.replace(
        "live-directory = \"live\"",
        "live-directory = \"shared/live\"",
    );
    fs::write(&config, other).unwrap();
    let output = refuses_to_run(host);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.contains(&format!(
            "{} is a link of user {STRANGER}",
            theirs.display()
        )),
        "{said}"
    );
    fs::write(&config, text).unwrap();
    eprintln!("untrustworthy at a start: {} cases", refused + 1);
    // What is the agent's own gets its mode at a start.
    for case in CASES.iter().filter(|case| case.mended_by_a_start) {
        let _ = case.spoil(&case.path(host));
    }
    let second = world.bundle(2);
    world.offer(&second);
    world.host.start_agent();
    world.outcome(2, v1::Outcome::Converged).await;
    serves(&world, &second).await;
    for directory in ["state", "state/store"] {
        let meta = fs::metadata(world.host.path(directory)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o700, "{directory}");
    }
    assert!(world.host.path("state/store").join(NAME).is_dir());
}
