#!/bin/sh
# Builds the packages of the last commit twice, in two places with nothing in common but the tools, and compares the bytes.
#
# The second time checkout, target directory and cargo's home lie elsewhere, files are of another time, and time zone,
# language and umask are others.
# No path of this machine may be in the programs either. Exits 0 only if all of that holds.
set -eu

say() { printf 'reproducible: %s\n' "$*"; }
fail() {
    printf 'reproducible: %s\n' "$*" >&2
    exit 1
}

cd "$(dirname -- "$0")/.."
cargo=${CARGO:-cargo}
tools=$($cargo metadata --no-deps --offline --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/tools
[ -x "$tools/bin/cargo-deb" ] || fail "cargo-deb isn't there: run lab/setup.sh packages"
cargo_home=${CARGO_HOME:-$HOME/.cargo}
commit=$(git rev-parse HEAD)
# A copy has no history, from which packages.sh takes it.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH
git diff --quiet HEAD || say "what isn't committed is left out"

work=$(mktemp -d "${TMPDIR:-/tmp}/certwell-reproducible.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# $1 the checkout, $2 the target directory; both below $work.
build() {
    mkdir -p "$1" "$2"
    git archive "$commit" | tar -xm -C "$1"
    ln -s "$tools" "$2/tools"
    began=$(date +%s)
    CARGO_TARGET_DIR=$2 "$1/lab/packages.sh" release
    say "built in $(($(date +%s) - began)) s"
}

first=$work/one/target second=$work/somewhere/quite/different
say "the first time, in $work/one"
build "$work/one" "$first"
say "the second time, in $work/another/checkout"
mkdir -p "$work/cargo/registry"
for part in index cache; do
    cp -a "$cargo_home/registry/$part" "$work/cargo/registry/"
done
for file in config.toml git; do
    [ ! -e "$cargo_home/$file" ] || cp -a "$cargo_home/$file" "$work/cargo/"
done
(
    umask 077
    export CARGO_HOME="$work/cargo" TZ=Asia/Kathmandu LC_ALL=C.UTF-8
    build "$work/another/checkout" "$second"
)

outcome=0
printf '\n%-40s %9s  %-64s  %s\n' package bytes sha256 'same?'
for deb in "$first"/debian/*.deb; do
    name=$(basename "$deb")
    other=$second/debian/$name
    same=yes
    cmp -s "$deb" "$other" || same=NO outcome=1
    for file in "$deb" "$other"; do
        [ "$same" = NO ] || [ "$file" = "$deb" ] || continue
        printf '%-40s %9s  %s  %s\n' "$name" "$(stat -c %s "$file")" "$(sha256sum "$file" | cut -d ' ' -f 1)" "$same"
    done
done
printf '\n'

# What differs, file by file.
unpack() {
    for deb in "$1"/debian/*.deb; do
        parts=$2/$(basename "$deb" .deb)
        mkdir -p "$parts"
        dpkg-deb --raw-extract "$deb" "$parts"
    done
}
unpack "$first" "$work/parts-1"
unpack "$second" "$work/parts-2"
[ "$outcome" = 0 ] || diff -rq "$work/parts-1" "$work/parts-2" || true

named=''
for path in "$work" "$(pwd -P)" "${tools%/tools}" "$cargo_home" "$(rustc --print sysroot)"; do
    for program in "$work"/parts-*/*/usr/bin/*; do
        ! grep -aqF "$path" "$program" || named="$named
  ${program##*/} has $path: $(grep -aoE "$path[[:print:]]{0,60}" "$program" | head -n 1)"
    done
done
if [ -n "$named" ]; then
    say "paths of this machine are in the programs:$named"
    outcome=1
else
    say "no path of this machine is in the programs"
fi
[ -z "${KEEP:-}" ] || trap - EXIT
exit "$outcome"
