//! What a purge of the agent's package takes and leaves, by the package's own script and this machine's nginx, in mount and
//! process namespaces of their own, where /etc and /var/lib are scratch and no other nginx runs.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Result, ensure};
use certwell_lab::{
    paths,
    program::{Output, Program},
};

use super::made::{ENDS, control};

/// Two certificates of ours with two generations each, one of certbot's, the nginx files, and another's directory.
const HOST: &str = r#"
rm -rf /etc/nginx/sites-enabled/* /etc/nginx/conf.d/* /etc/certwell /etc/letsencrypt
state=/var/lib/certwell-agent
mkdir -p $state/identity /etc/certwell/live/.a.before-certwell /etc/nginx/conf.d /etc/nginx/snippets
echo secret >$state/identity/identity.key
echo '{}' >$state/ledger.json
for name in a b; do
    for generation in 1 2; do
        mkdir -p $state/store/$name/$generation
        cp "$pair"/*.pem $state/store/$name/$generation/
    done
    ln -s $state/store/$name/2 /etc/certwell/live/$name
done
mkdir -p /etc/letsencrypt/live/own
cp "$pair"/*.pem /etc/letsencrypt/live/own/
cp "$shipped/certwell-acme.conf" /etc/nginx/conf.d/certwell-acme.conf
cp "$shipped/snippets/certwell-acme.conf" /etc/nginx/snippets/certwell-acme.conf
serve() {
    printf 'server { listen 127.0.0.1:18443 ssl; server_name x; ssl_certificate %s; ssl_certificate_key %s; }\n' \
        "$1/fullchain.pem" "$1/privkey.pem" >>/etc/nginx/sites-enabled/site
}
"#;

const A: &str = "/etc/certwell/live/a";
const B: &str = "/etc/certwell/live/b";
const MAP: &str = "/etc/nginx/conf.d/certwell-acme.conf";
const SNIPPET: &str = "/etc/nginx/snippets/certwell-acme.conf";

const OTHER_BUILD: &str = r#"
mkdir /var/lib/x
echo 'pid /var/lib/x/pid; events {} http { access_log off; server { listen unix:/var/lib/x/socket ssl;
    ssl_certificate /etc/certwell/live/a/fullchain.pem; ssl_certificate_key /etc/certwell/live/a/privkey.pem; } }' \
    >/var/lib/x/nginx.conf
LC_ALL=C sed 's|/etc/nginx/nginx.conf|/var/lib/x/nginx.conf|g' /usr/sbin/nginx >/var/lib/x/nginx
chmod +x /var/lib/x/nginx
/var/lib/x/nginx
"#;
/// A configuration outside /etc, for the calls that name it.
const ELSEWHERE: &str = r#"
mkdir /var/lib/x
echo 'pid /var/lib/x/pid; events {} http { access_log off; server { listen unix:/var/lib/x/socket ssl;
    ssl_certificate /etc/certwell/live/a/fullchain.pem; ssl_certificate_key /etc/certwell/live/a/privkey.pem; } }' \
    >/var/lib/x/own.conf
"#;
/// A shell of somebody's, with the title of a master whose binary would have another user's words done.
const IMPOSTOR: &str = r#"
mkfifo "$pair/input"
setpriv --reuid=65534 --regid=65534 --clear-groups \
    bash -c 'exec -a "nginx: master process x -c >/etc/certwell/taken" bash -s' <"$pair/input" &
exec 9>"$pair/input"
until grep -q '^nginx: master' /proc/$!/cmdline; do sleep 0.02; done
"#;

struct Case<'a> {
    /// Done to the host before the purge.
    given: &'a str,
    /// Readable afterwards.
    stays: &'static [&'static str],
    /// Not there afterwards.
    goes: &'static [&'static str],
    /// What the purge says of it.
    said: &'static [&'static str],
}

/// The script's output, and what is left.
fn purged(case: &Case<'_>) -> Result<()> {
    let home = tempfile::tempdir()?;
    let certified = rcgen::generate_simple_self_signed(["media.example.org".to_owned()])?;
    fs::write(home.path().join("fullchain.pem"), certified.cert.pem())?;
    fs::write(
        home.path().join("privkey.pem"),
        certified.signing_key.serialize_pem(),
    )?;
    fs::write(
        home.path().join("postrm"),
        control("certwell-agent", "postrm")?,
    )?;
    let Case {
        given, stays, goes, ..
    } = case;
    let (stays, goes) = (stays.join(" "), goes.join(" "));
    let script = format!(
        r#"set -eu
pair={pair} shipped={shipped}
mkdir "$pair/tmpfs" && mount -t tmpfs tmpfs "$pair/tmpfs"
for place in /etc /var/lib; do
    scratch="$pair/tmpfs$place"
    mkdir -p "$scratch/upper" "$scratch/work"
    mount -t overlay overlay -o "lowerdir=$place,upperdir=$scratch/upper,workdir=$scratch/work" $place
done
# The package's other helpers are Debian's, and would look at this machine's own units.
mkdir "$pair/bin" && printf '#!/bin/sh\n' >"$pair/bin/deb-systemd-helper" && chmod +x "$pair/bin/deb-systemd-helper"
export PATH="$pair/bin:$PATH:/usr/sbin:/sbin"
{HOST}
purge() {{ sh "$pair/postrm" purge; }}
state='/var/lib/certwell-agent/identity /var/lib/certwell-agent/ledger.json'
{given}
# A master has its title a moment after its call has come back.
untitled() {{
    for name in /proc/[0-9]*/comm; do
        [ "$(cat "$name" 2>/dev/null)" != nginx ] || grep -q '^nginx: ' "${{name%comm}}cmdline" || return 0
    done
    return 1
}}
while untitled; do sleep 0.02; done
before=fails; nginx -t 2>/dev/null && before=passes
purge
after=fails; nginx -t 2>"$pair/words" && after=passes
[ $before = $after ] || {{ echo "nginx -t $before before and $after afterwards:"; cat "$pair/words"; exit 1; }}
for path in {stays}; do [ -e $path ] || {{ echo "$path is gone"; exit 1; }}; done
for path in {goes}; do [ ! -e $path ] && [ ! -L $path ] || {{ echo "$path is there"; exit 1; }}; done
for path in $state; do
    [ ! -e $path ] || {{ echo "$path is there"; exit 1; }}
done
# A person's own, whatever else goes.
[ -d /etc/certwell/live/.a.before-certwell ] && [ -s /etc/letsencrypt/live/own/privkey.pem ]
"#,
        pair = home.path().display(),
        shipped = paths::packaging().join("nginx").display(),
    );
    let output = Program::new(
        "unshare",
        "unshare",
        [
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "sh",
            "-c",
            &script,
        ]
        .map(str::to_owned),
    )
    .run(Path::new("/"), "", ENDS)?;
    let Output { stdout, .. } = output.success(&format!("the purge after {given:?}"))?;
    for words in case.said {
        ensure!(stdout.contains(words), "{words:?} isn't said:\n{stdout}");
    }
    Ok(())
}

fn each(cases: &[Case<'_>]) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        // Not by `eprintln!`, which is heard only when a test fails.
        let mut stderr = std::io::stderr();
        writeln!(
            stderr,
            "SKIPPED: purges need root, for a mount namespace of their own"
        )?;
        return Ok(());
    }
    cases.iter().try_for_each(purged)
}

#[test]
fn what_nobody_names_goes_with_the_state() -> Result<()> {
    each(&[
        Case {
            given: "",
            stays: &[],
            goes: &[A, B, MAP, SNIPPET, "/var/lib/certwell-agent"],
            said: &["kept /etc/certwell/live/.a.before-certwell"],
        },
        Case {
            given: "printf '# ssl_certificate /etc/certwell/live/a/fullchain.pem;\\n' >/etc/nginx/sites-enabled/x\n\
                    serve /etc/letsencrypt/live/own",
            stays: &[],
            goes: &[A, B, MAP, SNIPPET, "/var/lib/certwell-agent"],
            said: &[],
        },
    ])
}

#[test]
fn what_a_configuration_names_stays_and_is_said() -> Result<()> {
    const STAYS: &[&str] = &["/etc/certwell/live/a/privkey.pem"];
    const GOES: &[&str] = &[B, "/var/lib/certwell-agent/store/b"];
    const SAID: &[&str] = &["kept /etc/certwell/live/a and what it leads to"];
    fn case(given: &str) -> Case<'_> {
        Case {
            given,
            stays: STAYS,
            goes: GOES,
            said: SAID,
        }
    }
    let named_in_the_call = [
        "nginx -c /var/lib/x/own.conf",
        "nginx -qc/var/lib/x/own.conf",
        // Whoever only looks below the prefix finds no certificate.
        "mv /var/lib/x/own.conf /var/lib/whole.conf; echo 'include /var/lib/whole.conf;' >/var/lib/x/own.conf
         nginx -p /var/lib/x/ -c own.conf",
        "nginx -c own.conf -p/var/lib/x",
        // Since then somebody has broken it, so that nginx can't tell it.
        "nginx -c /var/lib/x/own.conf; echo nonsense >>/var/lib/x/own.conf",
        "nginx -p /var/lib/x/ -c own.conf; echo nonsense >>/var/lib/x/own.conf",
        // By a link beside it, relative to its directory.
        "ln -s /etc/certwell/live/a /var/lib/x/own; sed -i 's|/etc/certwell/live/a|own|g' /var/lib/x/own.conf
         nginx -c /var/lib/x/own.conf",
        "ln -s /etc/certwell/live/a /var/lib/x/own; sed -i 's|/etc/certwell/live/a|own|g' /var/lib/x/own.conf
         nginx -p /var/lib/x/ -c own.conf; echo nonsense >>/var/lib/x/own.conf",
    ]
    .map(|call| format!("{ELSEWHERE}{call}"));
    let named_in_the_call: Vec<Case> = named_in_the_call.iter().map(|given| case(given)).collect();
    each(&named_in_the_call)?;
    each(&[
        // By its name; through a lineage of certbot's that was adopted; through an operator's link.
        case("serve /etc/certwell/live/a"),
        case("ln -s /etc/certwell/live/a /etc/letsencrypt/live/x; serve /etc/letsencrypt/live/x"),
        case("ln -s /etc/certwell/live/a /etc/ssl/mine; serve /etc/ssl/mine"),
        // The generation itself; relative to nginx's directory; in quotes.
        case("serve /var/lib/certwell-agent/store/a/1"),
        case("serve ../certwell/live/a"),
        case(
            "serve /etc/certwell/live/a; sed -i 's|ssl_certificate \\([^;]*\\);|ssl_certificate \"\\1\";|' \
             /etc/nginx/sites-enabled/site",
        ),
        // nginx that refuses its configuration can't tell it.
        case("serve /etc/certwell/live/a; echo 'nonsense;' >/etc/nginx/conf.d/broken.conf"),
        // Other programs.
        case(
            "mkdir -p /etc/postfix; echo 'smtpd_tls_cert_file=/etc/certwell/live/a/fullchain.pem' >/etc/postfix/main.cf",
        ),
        // Another build of nginx, which has its configuration elsewhere and was called without saying so.
        case(OTHER_BUILD),
        // The state lies on another disk.
        case(
            "mv /var/lib/certwell-agent /var/lib/moved; ln -s moved /var/lib/certwell-agent; serve /etc/certwell/live/a",
        ),
        // Nobody names it, but certbot's own directory would lead nowhere.
        case("ln -s /etc/certwell/live/a /etc/letsencrypt/live/x"),
    ])
}

#[test]
fn a_path_with_a_variable_keeps_all_that_it_may_lead_to() -> Result<()> {
    each(&[Case {
        given: "serve '/etc/certwell/live/$ssl_server_name'",
        stays: &[
            "/etc/certwell/live/a/privkey.pem",
            "/etc/certwell/live/b/privkey.pem",
        ],
        goes: &[],
        said: &["kept /etc/certwell/live/a", "kept /etc/certwell/live/b"],
    }])
}

#[test]
fn the_challenge_map_stays_while_its_variable_is_used_and_the_purge_says_so() -> Result<()> {
    each(&[
        Case {
            given: "echo 'server { listen 127.0.0.1:18080; include snippets/certwell-acme.conf; }' \
                    >/etc/nginx/sites-enabled/http",
            stays: &[MAP, SNIPPET],
            goes: &[A, B],
            said: &["includes the snippet"],
        },
        Case {
            given: "echo 'server { listen 127.0.0.1:18080; if ($certwell_acme_reply) { return 200 \
                    $certwell_acme_reply; } }' >/etc/nginx/sites-enabled/http",
            stays: &[MAP],
            goes: &[A, B, SNIPPET],
            said: &["uses its variable"],
        },
        Case {
            given: "echo 'server { listen 127.0.0.1:18080; include snippets/certwell-acme.conf; }' \
                    >/etc/nginx/sites-enabled/http; echo 'nonsense;' >/etc/nginx/conf.d/broken.conf",
            stays: &[MAP, SNIPPET],
            goes: &[A, B],
            said: &["includes the snippet"],
        },
        // Read as files, among them what is no text: a link to nginx's modules, a bundle of keys.
        Case {
            given: "echo 'server { listen 127.0.0.1:18080; if ($certwell_acme_reply) { return 200 \
                    $certwell_acme_reply; } }' >/etc/nginx/sites-enabled/http; echo 'nonsense;' >/etc/nginx/conf.d/broken.conf
                    printf 'a\\0\\377b\\n' >/etc/nginx/bundle.p12",
            stays: &[MAP],
            goes: &[A, B, SNIPPET],
            said: &["uses its variable"],
        },
    ])
}

/// What it would go by is cut short: then it names too little.
#[test]
fn a_full_disk_ends_the_purge_before_anything_is_removed() -> Result<()> {
    each(&[Case {
        given: "serve /etc/certwell/live/a
                mkdir \"$pair/full\"; mount -t tmpfs -o size=8k tmpfs \"$pair/full\"
                ! cat /dev/zero 2>/dev/null >\"$pair/full/all\"
                purge() { ! TMPDIR=\"$pair/full\" sh \"$pair/postrm\" purge; }
                state=''",
        stays: &[
            "/etc/certwell/live/a/privkey.pem",
            "/etc/certwell/live/b/privkey.pem",
            "/var/lib/certwell-agent/identity/identity.key",
            MAP,
            SNIPPET,
        ],
        goes: &[],
        said: &[],
    }])
}

#[test]
fn what_calls_itself_a_master_is_never_run_by_root() -> Result<()> {
    each(&[Case {
        given: IMPOSTOR,
        stays: &[],
        goes: &[A, B, "/etc/certwell/taken"],
        said: &[],
    }])
}
