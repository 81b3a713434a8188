#!/bin/sh
# Makes both Debian packages.
#
#   packages.sh release          builds the programs in target/shipped; into target/debian
#   packages.sh dev              of target/debug as it is built already, stripped; into target/debian-dev: what the tests
#                                install
#   packages.sh PROFILE WHERE    into another directory
#
# The same commit gives the same bytes wherever it lies: `make reproducible`. Nothing is done when the packages are newer
# than all that goes into them. The metadata are in issuer/Cargo.toml and agent/Cargo.toml. cargo-deb packages no dev
# profile: it is given a target directory of ours, where the programs and what they print of themselves lie under `release`.
set -eu
umask 022

say() { printf 'packages: %s\n' "$*"; }
fail() {
    printf 'packages: %s\n' "$*" >&2
    exit 1
}

PATH="$PATH:/usr/sbin:/sbin"
cd "$(dirname -- "$0")/.."
cargo=${CARGO:-cargo}
programs='certwell-issuer certwell certwell-agent'

target=$($cargo metadata --no-deps --offline --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
[ -n "$target" ] || fail "'cargo metadata' doesn't tell the target directory"
case "${1:-}" in
release) built=$target/shipped out=$target/debian compress='' ;;
dev) built=$target/debug out=$target/debian-dev compress=--fast ;;
*) fail "unknown profile '${1:-}': release or dev" ;;
esac
stage=$target/packages/$1
if [ -n "${2:-}" ]; then
    mkdir -p "$2"
    out=$(cd "$2" && pwd) stage=$out/stage
fi
tool=$target/tools/bin/cargo-deb
[ -x "$tool" ] || fail "cargo-deb isn't there: run lab/setup.sh packages"

# One time for all files: the last commit's. Where there is none (a source archive), the change log's.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH

# Where this machine keeps what is compiled, and how the programs call it. Each as it is called and as it is: rustc and
# the C compiler name one or the other. Where several match, rustc takes the last.
here=$(pwd -P)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
places() {
    printf '%s=certwell\n' "$here"
    for path in "$target" "$(readlink -m "$target")"; do printf '%s=target\n' "$path"; done
    for path in "$cargo_home" "$(readlink -m "$cargo_home")"; do printf '%s=cargo\n' "$path"; done
    printf '%s=rust\n' "$(rustc --print sysroot)"
}

build_shipped() {
    case "$(places)" in
    *[[:blank:]]*) fail "a blank in the path of the checkout, the target directory or cargo's: the C compiler can't be told" ;;
    esac
    rust='' c=''
    for place in $(places); do
        rust="$rust --remap-path-prefix=$place"
        c="$c -ffile-prefix-map=$place"
    done
    env -u CARGO_ENCODED_RUSTFLAGS -u TARGET_CFLAGS RUSTFLAGS="${rust# }" CFLAGS="${c# }" \
        $cargo build --locked --profile shipped --workspace --bins --exclude certwell-lab
}
[ "$1" != release ] || build_shipped
for program in $programs; do
    [ -x "$built/$program" ] || fail "$built/$program isn't built: run 'cargo build --bins'"
done

mkdir -p "$stage" "$out"
# Several tests may want them at once.
exec 9>"$stage/lock"
flock 9

up_to_date() {
    [ "$(cat "$stage/time" 2>/dev/null)" = "$SOURCE_DATE_EPOCH" ] || return 1
    for package in certwell-agent certwell-issuer; do
        deb=$(ls "$out/$package"_*.deb 2>/dev/null) || return 1
        # shellcheck disable=SC2086  # three words
        newer=$(cd "$built" && find $programs -newer "$deb")
        newer=$newer$(find packaging CHANGELOG.md LICENSE-MIT Cargo.toml agent/Cargo.toml issuer/Cargo.toml lab/packages.sh \
            -newer "$deb")
        [ -z "$newer" ] || return 1
    done
}
if up_to_date; then
    exit 0
fi

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
maintainer=$(sed -n 's/^maintainer = "\(.*\)"/\1/p' agent/Cargo.toml)

say "laying out the programs, their pages and completions"
rm -rf "$stage/release" "$stage/debian"
mkdir -p "$stage/release/completions" "$stage/debian"
for program in $programs; do
    strip -o "$stage/release/$program" "$built/$program"
    mkdir -p "$stage/release/man/$program"
    "$built/$program" man "$stage/release/man/$program"
    gzip -9n "$stage/release/man/$program"/*
    for shell in bash zsh fish; do
        "$built/$program" completions $shell >"$stage/release/completions/$program.$shell"
    done
done

# What Debian's own change log has to say about packages that nobody but this project makes.
changelog() {
    printf '%s (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' \
        "$1" "$version" "$maintainer" "$(LC_ALL=C date --utc --date="@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')"
}

for package in certwell-agent certwell-issuer; do
    mkdir -p "$stage/release/doc/$package"
    changelog "$package" | gzip -9n >"$stage/release/doc/$package/changelog.Debian.gz"
    say "$package"
    # shellcheck disable=SC2086  # one word or none
    CARGO_TARGET_DIR=$stage "$tool" --quiet --offline --no-build --no-strip $compress --package "$package" \
        --output "$stage/debian" >/dev/null
done
rm -f "$out"/certwell-*.deb
mv "$stage"/debian/*.deb "$out"
echo "$SOURCE_DATE_EPOCH" >"$stage/time"
for deb in "$out"/*.deb; do
    say "$(du -h "$deb" | cut -f 1)  $deb"
done
