# Shared by the scripts in this folder: where the tools are, how a check fails. To be sourced.
# shellcheck shell=bash

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
deploy=$(dirname "$here")
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# The folder that setup.sh fills; another one for other versions, or another Python.
tools_dir() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/openclaw-edge-tests
    local python sum
    python=$(python3 -c 'import sys; print("%d%d" % sys.version_info[:2])')
    sum=$(sha256sum "$here/requirements.txt")
    echo "$cache/deploy-py$python-${sum:0:12}"
}

# The release that machine.sh starts: this machine's, whose C library the package's binary links,
# from where its packages come.
machine_release() (
    . /etc/os-release
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 'Component: main' |
        awk -v release="${VERSION_CODENAME:?}" '$1 == release && !seen++'
)

machine_base() {
    local release
    release=$(machine_release)
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/openclaw-edge-tests/machine-${release%% *}-1"
}

# use PROGRAM...: the programs, or the end of the test.
use() {
    local program tools
    tools=$(tools_dir)
    [ -d "$tools" ] || fail "no $tools: run deploy/tests/setup.sh"
    export PATH="$tools/bin:$PATH" PYTHONPATH="$tools/python" PYTHONDONTWRITEBYTECODE=1
    for program; do
        type -P "$program" >/dev/null || fail "no $program: run deploy/tests/setup.sh"
    done
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
}

# Prints the program under test: $OPENCLAW_EDGE_BIN, else what cargo has built here.
edge_binary() {
    local built=${CARGO_TARGET_DIR:-$deploy/../target} one
    for one in ${OPENCLAW_EDGE_BIN:+"$OPENCLAW_EDGE_BIN"} "$built/release/openclaw-edge" "$built/debug/openclaw-edge"; do
        if [ -x "$one" ]; then
            realpath "$one"
            return
        fi
    done
    fail "no openclaw-edge in $built: build it, or name it in OPENCLAW_EDGE_BIN"
}

# Prints the binary that the package has: $OPENCLAW_EDGE_DEB_BIN, else the one under test.
package_binary() { OPENCLAW_EDGE_BIN=${OPENCLAW_EDGE_DEB_BIN:-${OPENCLAW_EDGE_BIN:-}} edge_binary; }

# image_of_the_binary FOLDER: what `make image` makes of the binary under test; prints what that
# prints. A binary that needs libraries is none for an image: one without them is built, in minutes.
image_of_the_binary() {
    local binary given=()
    binary=$(edge_binary)
    readelf --program-headers "$binary" | grep -q INTERP || given=(--binary "$binary")
    bash "$deploy/image/build.sh" --out "$1" "${given[@]}"
}

# That of Cargo.toml, which is the tag of the image.
version() { sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$deploy/../Cargo.toml"; }

# Prints the load generator: $OPENCLAW_EDGE_SOAK, else what cargo has built here.
load_binary() {
    local built=${CARGO_TARGET_DIR:-$deploy/../target} one
    for one in ${OPENCLAW_EDGE_SOAK:+"$OPENCLAW_EDGE_SOAK"} "$built/release/soak" "$built/debug/soak"; do
        if [ -x "$one" ]; then
            realpath "$one"
            return
        fi
    done
    fail "no soak in $built: cargo build --release -p benches --bin soak, or name it in OPENCLAW_EDGE_SOAK"
}

objects() { python3 "$here/objects.py" "$@"; }

checks=0
# holds WHAT COMMAND...: the command must succeed; its output is shown where it does not.
holds() {
    local what=$1
    shift
    "$@" >"$scratch/said" 2>&1 || { cat "$scratch/said" >&2; fail "$what"; }
    checks=$((checks + 1))
}

# refused WHAT TEXT COMMAND...: the command must fail, and say why.
refused() {
    local what=$1 text=$2
    shift 2
    ! "$@" >"$scratch/said" 2>&1 || { cat "$scratch/said" >&2; fail "$what is not refused"; }
    grep -qF -- "$text" "$scratch/said" || { cat "$scratch/said" >&2; fail "$what: '$text' is not said"; }
    checks=$((checks + 1))
}

done_with() { echo "$1: $checks passed, 0 failed"; }

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# deb_package [ARGUMENT OF CARGO-DEB...]: makes the package, prints its path.
deb_package() {
    local binary
    binary=$(package_binary) || exit 1
    PATH=$PATH:$HOME/.cargo/bin cargo deb --version >/dev/null 2>&1 ||
        fail "no cargo-deb: run '.ci/setup build deb'"
    bash "$deploy/debian/build.sh" "$binary" "$scratch" "$@" 2>"$scratch/said" || { cat "$scratch/said" >&2; fail "no package"; }
}
