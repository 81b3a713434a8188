//! The short-lived child that reads nginx's configuration: how long it takes, and the most memory that it holds.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{certs::Pair, paths, program::write_program};
use serde_json::json;
use tokio::time::Instant;

use super::median;

const COUNTS: [usize; 3] = [1, 200, 1_000];
const ROUNDS: usize = 7;
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(1);
/// A peak that didn't rise for so long is the peak.
const STILL: Duration = Duration::from_millis(300);

pub(super) fn run() -> Result<()> {
    println!("  server blocks      dump   nginx -T   all of it   parsing   peak, its own");
    for count in COUNTS {
        let home = tempfile::tempdir()?;
        let config = lay_out(home.path(), count)?;
        let nginx = || -> Result<Vec<u8>> {
            let arguments = ["-T", "-p", ".", "-c"];
            let mut command = Command::new(paths::nginx());
            command
                .current_dir(home.path())
                .args(arguments)
                .arg(&config);
            let output = command.output().context("nginx can't be started")?;
            ensure!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(output.stdout)
        };
        let dump = home.path().join("dump");
        fs::write(&dump, nginx()?)?;
        // Stands in for nginx where only what the child does by itself is to be measured.
        let told = home.path().join("told");
        write_program(&told, &format!("exec cat {}", dump.display()))?;
        let dumped = timed(|| nginx().map(drop))?;
        let real = Path::new(paths::nginx());
        let whole = timed(|| child(real, &config, home.path(), false).map(drop))?;
        let parsed = timed(|| child(&told, &config, home.path(), false).map(drop))?;
        let peak = child(&told, &config, home.path(), true)?;
        println!(
            "  {count:>13} {:>5} KiB {dumped:>7.0} ms {whole:>8.0} ms {parsed:>6.0} ms {:>8.1} MiB",
            fs::metadata(&dump)?.len() / 1024,
            peak as f64 / 1024.0
        );
    }
    Ok(())
}

/// Milliseconds, the median of some.
fn timed(work: impl Fn() -> Result<()>) -> Result<f64> {
    let mut values = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        work()?;
        values.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(median(&values))
}

/// So many server blocks with TLS, each with one for plain HTTP in a file of its own.
fn lay_out(home: &Path, count: usize) -> Result<PathBuf> {
    Pair::expired(&["shop.example.org".to_owned()])?.write_into(home)?;
    fs::create_dir(home.join("sites"))?;
    fs::write(
        home.join("tls.conf"),
        "ssl_session_tickets off;\nssl_protocols TLSv1.2 TLSv1.3;\nadd_header Strict-Transport-Security \"max-age=63072000\" always;\n",
    )?;
    for number in 0..count {
        let mut text = String::new();
        let names = format!("v{number}.example.org www.v{number}.example.org");
        write!(
            text,
            "server {{\n  listen 127.0.0.1:8080;\n  server_name {names};\n  location / {{ return 301 https://$host$request_uri; }}\n}}\n\
             server {{\n  listen 127.0.0.1:8443 ssl http2;\n  server_name {names};\n  include tls.conf;\n  \
             ssl_certificate {home}/fullchain.pem;\n  ssl_certificate_key {home}/privkey.pem;\n  root /srv/www/{number}/public;\n  \
             index index.php index.html;\n  location ~* \\.(css|js|png|woff2?)$ {{ expires 30d; add_header Cache-Control \"public\"; }}\n  \
             location ~ \\.php(?:$|/) {{\n    fastcgi_split_path_info ^(.+?\\.php)(/.*)$;\n    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n    \
             fastcgi_param HTTPS on;\n    fastcgi_pass unix:/run/php/{number}.sock;\n  }}\n  location ~ /\\. {{ deny all; }}\n  \
             location / {{ try_files $uri $uri/ /index.php$is_args$args; }}\n}}\n",
            home = home.display()
        )?;
        fs::write(home.join(format!("sites/v{number:04}.conf")), text)?;
    }
    let config = home.join("nginx.conf");
    fs::write(
        &config,
        "pid nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\n  access_log off;\n  client_body_temp_path t1; proxy_temp_path t2; \
         fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\n  server_names_hash_max_size 8192;\n  include sites/*.conf;\n}\n",
    )?;
    Ok(config)
}

/// Has the agent's child read the configuration; the most memory that it held, in KiB, where that is looked at.
fn child(binary: &Path, config: &Path, home: &Path, look: bool) -> Result<usize> {
    let invocation = json!({
        "binary": binary, "prefix": home, "config": config, "globals": [], "error_log": null, "directory": home,
    });
    let mut child = Command::new(paths::binary("certwell-agent")?)
        .arg("nginx-listeners")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the agent can't be started")?;
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(invocation.to_string().as_bytes())?;
    let mut answer = child.stdout.take().context("no standard output")?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut most = 0;
    if look {
        // A longer answer isn't taken yet, so that it can't end.
        let mut since = Instant::now();
        while let Some(now) = peak(&status).filter(|_| since.elapsed() < STILL) {
            if now > most {
                (most, since) = (now, Instant::now());
            }
            thread::sleep(LOOK);
        }
    }
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    let ended = child.wait()?;
    ensure!(
        ended.success() && text.starts_with("{\"Parsed\""),
        "{text:.300}"
    );
    Ok(most)
}

/// The most that a process has held so far; `None` when it has ended.
fn peak(status: &Path) -> Option<usize> {
    let status = fs::read_to_string(status).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
