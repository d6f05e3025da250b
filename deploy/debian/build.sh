#!/usr/bin/env bash
# The Debian package of a binary that is built: man pages and completions as the binary prints them,
# the crates it is made of, then cargo-deb (metadata: proxy/Cargo.toml).
# The binary must link against the C library. A static one has that of its build, whose resolver loads
# what nsswitch.conf names (myhostname, mdns4, resolve) from the machine, and dies where that has
# another release: of SIGFPE when a certificate is ordered or a name is asked for.
#     deploy/debian/build.sh BINARY DIRECTORY [ARGUMENT OF CARGO-DEB...]      prints the path of the .deb
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: ${0##*/} BINARY DIRECTORY [ARGUMENT OF CARGO-DEB...]" >&2; exit 1; }
binary=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
arguments=("${@:3}")
readelf --program-headers "$binary" | grep -q INTERP ||
    { echo "${0##*/}: $binary is static: the package takes that of 'cargo build --release'" >&2; exit 1; }
cd "$(dirname "$0")/../.."
export PATH="$PATH:$HOME/.cargo/bin"

# cargo-deb takes target/release/ from here, and strips its copy.
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
release=$stage/release
mkdir -p "$release/deb"
cp "$binary" "$release/openclaw-edge"
"$binary" man --out "$release/deb/man"
gzip -9n "$release"/deb/man/*.1
"$binary" completions bash >"$release/deb/openclaw-edge.bash"
"$binary" completions zsh >"$release/deb/_openclaw-edge"
"$binary" completions fish >"$release/deb/openclaw-edge.fish"
cargo tree --locked --package proxy --edges normal --target all --prefix none --no-dedupe \
    --format '{p} {l}' | sed 's# (/[^)]*)##; s# (proc-macro)##' | sort -u >"$release/deb/crates"
cp deploy/debian/lintian-overrides "$release/deb/"
CARGO_TARGET_DIR=$stage cargo deb --quiet --locked --no-build --package proxy --output "$out/" "${arguments[@]}"
