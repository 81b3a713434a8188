//! `enroll` and `leave` where systemd runs the agent: a `systemctl` of the test's own starts and stops it, and the
//! default configuration file is one of this host's, in a mount namespace of each verb's own.

use std::{
    fs,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{
    fleet::Authority,
    host::{Host, NAME, write_program},
    issuer::TestIssuer,
    scripted::ended,
    world::{NAMES, skipped},
};

const OTHER: &str = "other.example.org";

struct Machine {
    host: Host,
}

impl Machine {
    /// `None` where nothing can be mounted.
    async fn new() -> Option<Self> {
        let mut host = Host::new();
        let root = host.root().display().to_string();
        let mut config = fs::read_to_string(host.path("agent.toml")).unwrap();
        for place in [
            "state",
            "live",
            "run/nginx.pid",
            "nginx.conf",
            "conf.d/certwell-acme.conf",
        ] {
            config = config.replace(&format!("\"{place}\""), &format!("\"{root}/{place}\""));
        }
        fs::write(host.path("agent.toml"), config).unwrap();
        fs::create_dir(host.path("bin")).unwrap();
        let agent = env!("CARGO_BIN_EXE_certwell-agent");
        write_program(
            &host.path("bin/systemctl"),
            &format!(
                "cd {root}/run\n\
                 alive() {{ test -s unit.pid && grep -q '^State:.[^ZX]' \"/proc/$(cat unit.pid)/status\" 2>/dev/null; }}\n\
                 case $3 in\n\
                 show) alive && active=active || active=inactive\n\
                 test -e masked && load=masked || load=loaded\n\
                 printf 'LoadState=%s\\nActiveState=%s\\nSubState=dead\\nUnitFileState=disabled\\n' $load $active;;\n\
                 start) test -e refused && {{ echo 'made up to fail' >&2; exit 1; }}\n\
                 setsid {agent} run </dev/null >agent.log 2>&1 &\n\
                 echo $! >unit.pid;;\n\
                 stop) alive && kill $(cat unit.pid)\n\
                 while alive; do sleep 0.05; done\n\
                 rm -f unit.pid;;\n\
                 esac"
            ),
        );
        host.start_nginx().await;
        let machine = Self { host };
        let there = machine.command(&["check"]).output().unwrap();
        if there.stdout != b"ok\n" {
            skipped("nothing can be mounted here");
            return None;
        }
        Some(machine)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let script = format!(
            "mount --make-rprivate / && mount -t tmpfs none /run && \
             mkdir -p /run/systemd/system /run/upper /run/work && \
             mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work none /etc && \
             mkdir -p /etc/certwell && cp {} /etc/certwell/ && exec \"$@\"",
            self.host.path("agent.toml").display()
        );
        let mut command = Command::new("unshare");
        let path = std::env::var("PATH").unwrap();
        command
            .args(["--mount", "/bin/sh", "-c", &script, "sh"])
            .arg(env!("CARGO_BIN_EXE_certwell-agent"))
            .args(arguments)
            .env(
                "PATH",
                format!("{}:{path}", self.host.path("bin").display()),
            )
            .stdin(Stdio::null());
        command
    }

    async fn script(&self, arguments: &[&str]) -> (i32, Option<Value>, String) {
        ended(self.command(&[arguments, &["--json"]].concat())).await
    }

    fn makes_up(&self, what: &str, so: bool) {
        let file = self.host.path("run").join(what);
        if so {
            fs::write(file, "").unwrap();
        } else {
            fs::remove_file(file).unwrap();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.host.path("run/unit.pid"));
        if let Some(pid) = pid.ok().and_then(|pid| pid.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[tokio::test]
async fn a_script_is_told_whether_the_unit_runs_and_what_is_left_to_do() {
    if !nix::unistd::geteuid().is_root() {
        skipped("only root mounts");
        return;
    }
    let issuer = TestIssuer::start().await;
    let authority = Authority::new("test CA");
    for (name, names) in [(NAME, NAMES), (OTHER, &[OTHER])] {
        issuer.offer(&authority, &authority.bundle(name, 1, names), names);
    }
    let Some(machine) = Machine::new().await else {
        return;
    };
    let token = issuer.token();
    let enroll = ["enroll", "--again", &token];
    let another_token = || issuer.memory.lock().unwrap().token_used = false;

    machine.makes_up("refused", true);
    let (code, down, said) = machine.script(&enroll).await;
    let down = down.unwrap();
    let sentence = said.strip_prefix("certwell-agent: ").unwrap();
    assert!(sentence.contains("made up to fail"), "{sentence}");
    let mut wanted = json!({
        "version": 1,
        "host": "sally",
        "fleet": "hachyderm",
        "fingerprint": down["fingerprint"],
        "unit": "down",
        "problem": sentence,
        "left_to_do": null,
    });
    assert_eq!((code, &down), (3, &wanted));
    machine.makes_up("refused", false);

    wanted["problem"] = Value::Null;
    for (made_up, arguments, word) in [
        (true, &[][..], "masked"),
        (false, &["--no-start"], "left-alone"),
    ] {
        if made_up {
            machine.makes_up(word, true);
        }
        another_token();
        let (code, told, said) = machine.script(&[&enroll, arguments].concat()).await;
        let told = told.unwrap();
        wanted["unit"] = word.into();
        wanted["fingerprint"] = told["fingerprint"].clone();
        assert_eq!((code, &told), (0, &wanted), "{said}");
        if made_up {
            machine.makes_up(word, false);
        }
    }

    another_token();
    let (code, told, said) = machine.script(&enroll).await;
    let told = told.unwrap();
    let left = &told["left_to_do"];
    assert!(
        left["in_the_way"].is_array() && left["notes"].is_array(),
        "{told}"
    );
    wanted["unit"] = "running".into();
    wanted["fingerprint"] = told["fingerprint"].clone();
    wanted["left_to_do"] = json!({
        "in_the_way": left["in_the_way"],
        "notes": left["notes"],
        "live_directory": machine.host.path("live"),
        "assigned": [NAME, OTHER],
        "unnamed": [OTHER],
    });
    assert_eq!((code, &told), (0, &wanted), "{said}");

    let (code, told, said) = machine.script(&["leave", "--yes"]).await;
    let told = told.unwrap();
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(told["unit_stopped"], true);
    assert_eq!(told["certificates"].as_array().unwrap().len(), 2, "{told}");
    assert!(!machine.host.path("run/unit.pid").exists());
}
