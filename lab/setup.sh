#!/bin/sh
# Installs what the lab needs from Debian, and nothing when all is there.
#
#   setup.sh demo       nginx, pebble
#   setup.sh packages   what Debian packages are made and judged with: cargo-deb, dpkg-shlibdeps, lintian
#   setup.sh fleet      the same, and what whole Debian hosts are made and booted with
#   setup.sh screenshots  the demo's, and a browser
#   setup.sh test       all of it, and what the faults are made with: faketime, strace, attr; haproxy and certbot to live
#                       beside; nginx's module for stream blocks; aiosmtpd and Alertmanager to send messages to;
#                       headless Chromium to look at the page with
set -eu

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# nginx lies in /usr/sbin, which isn't in everybody's PATH.
PATH="$PATH:/usr/sbin:/sbin"
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

# Is version $1 at least $2 (two numbers each)?
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

check_rust() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/../Cargo.toml")
    command -v cargo >/dev/null 2>&1 ||
        fail "cargo is not in PATH: install Rust $wanted or newer from https://rustup.rs, open a new shell, and run this again"
    found=$(rustc --version | cut -d ' ' -f 2)
    at_least "$found" "$wanted" ||
        fail "Rust $found is too old, $wanted or newer is needed: run 'rustup update stable', and this again"
    command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
}

# As root, or by sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

install_missing() {
    command -v apt-get >/dev/null 2>&1 ||
        fail "missing:$missing; this is no Debian system, so install them by its own means, and run this again"
    if [ "$(id -u)" -ne 0 ]; then
        { command -v sudo >/dev/null 2>&1 && sudo -v; } ||
            fail "missing:$missing, and neither root nor sudo at hand; have this run as root: apt-get install$missing"
    fi
    new=''
    for program in nginx haproxy certbot prometheus prometheus-alertmanager; do
        command -v "$program" >/dev/null 2>&1 || new="$new $program"
    done
    say "installing from Debian:$missing"
    # The package lists may be absent or old: they are refreshed only when the first try fails.
    # shellcheck disable=SC2086  # one word for each package
    if ! attempt install -y --no-install-recommends $missing; then
        say "refreshing the package lists"
        attempt update || fail "'apt-get update' failed: $(cat "$words")"
        attempt install -y --no-install-recommends $missing ||
            fail "'apt-get install$missing' failed: $(cat "$words")"
    fi
    for program in $new; do
        stop_new_service "$program"
    done
}

# Runs apt-get, and keeps the end of what it said.
attempt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$words.all" 2>&1 && return 0
    tail -n 20 "$words.all" >"$words"
    return 1
}

# Debian's packages start a server or a timer. The lab runs its own ones elsewhere, and nobody asked for these.
# A service that was there before is never touched.
stop_new_service() {
    case $1 in
    certbot) unit=certbot.timer ;;
    *) unit=$1.service ;;
    esac
    if [ -d /run/systemd/system ]; then
        [ "$(systemctl show --property LoadState --value "$unit")" = loaded ] || return 0
        as_root systemctl disable --quiet --now "$unit" || true
        say "the new $1 package started $unit; it is stopped and disabled again"
        say "(the lab starts its own; to have it back: systemctl enable --now $unit)"
    elif [ "$1" = nginx ] && [ -e /run/nginx.pid ]; then
        as_root nginx -s quit || true
        say "the new nginx package started a server on port 80; it is stopped again, the lab starts its own"
    fi
}

need() {
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need_file() {
    [ -e "$1" ] || missing="$missing $2"
}

# From crates.io, into the target directory: it takes a minute or two, once.
cargo_deb=3.8.0
install_cargo_deb() {
    target=$(cargo metadata --manifest-path "$here/../Cargo.toml" --no-deps --offline --format-version 1 |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    [ -n "$target" ] || fail "'cargo metadata' doesn't tell the target directory"
    [ "$("$target/tools/bin/cargo-deb" --version 2>/dev/null)" != "cargo-deb $cargo_deb" ] || return 0
    say "building cargo-deb $cargo_deb, a minute or two"
    cargo install cargo-deb --quiet --locked --version "$cargo_deb" --no-default-features \
        --root "$target/tools" --target-dir "$target/tools/build" ||
        fail "cargo-deb can't be built: see the lines before"
    rm -rf "$target/tools/build"
}

need_world() {
    need nginx nginx
    need pebble pebble
    need pebble-challtestsrv pebble
}

# Its headless shell is all that is used: the whole browser brings GTK and a desktop along. It brings no font.
need_browser() {
    need chromium-headless-shell chromium-headless-shell
    need_file /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf fonts-dejavu-core
}

need_for_packages() {
    need dpkg-shlibdeps dpkg-dev
    need strip binutils
    need xz xz-utils
    need lintian lintian
}

need_for_fleet() {
    need_for_packages
    need mmdebstrap mmdebstrap
    need systemd-nspawn systemd-container
    need ip iproute2
    need nsenter util-linux
}

purpose=${1:-demo}
missing=''
check_rust
case "$purpose" in
demo) need_world ;;
packages) need_for_packages ;;
fleet) need_for_fleet ;;
screenshots)
    need_world
    need_browser
    ;;
test)
    need_world
    need_for_fleet
    need_browser
    need faketime faketime
    need strace strace
    need setfattr attr
    need haproxy haproxy
    need certbot certbot
    need promtool prometheus
    need prometheus prometheus
    need aiosmtpd python3-aiosmtpd
    need prometheus-alertmanager prometheus-alertmanager
    need_file /usr/lib/nginx/modules/ngx_stream_module.so libnginx-mod-stream
    ;;
*) fail "unknown purpose '$purpose': demo, packages, fleet, screenshots or test" ;;
esac

if [ -n "$missing" ]; then
    words=$(mktemp)
    trap 'rm -f "$words" "$words.all"' EXIT
    missing=$(printf '%s\n' "$missing" | tr ' ' '\n' | sort -u | tr '\n' ' ' | sed 's/ *$//')
    install_missing
    missing=''
    case "$purpose" in
    packages) need_for_packages ;;
    fleet) need_for_fleet ;;
    *) need_world ;;
    esac
    [ -z "$missing" ] || fail "installed, yet not found in PATH:$missing"
fi
case "$purpose" in
packages | fleet | test) install_cargo_deb ;;
esac
