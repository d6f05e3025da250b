#!/usr/bin/env bash
# The container image, without a container engine and without root: a static binary, the
# authorities, the SBOM, put together by image.py. `make image` calls it.
#   deploy/image/build.sh [--out FOLDER] [--binary STATIC_BINARY]
# In FOLDER (target/image): oci/ is the image and its SBOM as a layout, openclaw-edge-VERSION.oci.tar
# the image for `podman load`, `docker load` and k3s, openclaw-edge-VERSION.cdx.json the SBOM.
#
# The same commit gives the same digest in every folder of every machine with the same Rust toolchain
# and the same C library and compiler (Debian's gcc and libc6-dev).
set -euo pipefail
export PATH="$PATH:$HOME/.cargo/bin" LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath "$here/../..")
target=${CARGO_TARGET_DIR:-$root/target}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
out=$target/image
binary=
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

main() {
    while [ $# -gt 0 ]; do
        case $1 in
        --out) out=$2 ;;
        --binary) binary=$2 ;;
        *) fail "usage: build.sh [--out FOLDER] [--binary STATIC_BINARY]" ;;
        esac
        shift 2
    done
    local arch version
    arch=$(uname -m)
    version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    [ -n "$version" ] || fail "no version in Cargo.toml"
    [ -n "$binary" ] || build "$arch-unknown-linux-gnu"
    roots
    sbom "$arch-unknown-linux-gnu"
    rm -rf "$out"
    mkdir -p "$out"
    cp "$scratch/sbom.cdx.json" "$out/openclaw-edge-$version.cdx.json"
    python3 "$here/image.py" --binary "$binary" --roots "$scratch/roots.pem" --sbom "$scratch/sbom.cdx.json" \
        --license "$root/LICENSE" --out "$out" --version "$version" --revision "$(revision)" \
        --architecture "$(sed 's/x86_64/amd64/; s/aarch64/arm64/' <<<"$arch")" --epoch "$(epoch)"
}

# No path of this machine, no time, no interpreter. --target, so that what cargo itself runs (macros,
# build scripts) is not static too.
build() {
    cargo fetch --locked --manifest-path "$root/Cargo.toml" >&2
    # Of those that match the last one counts.
    local paths=("$root=/source" "$target=/target" "$cargo_home=/cargo" "$(rustc --print sysroot)=/rust") one
    # The name of this one has the address of the registry in it.
    for one in "$cargo_home"/registry/src/*; do
        paths+=("$one=/crates")
    done
    RUSTFLAGS="-C target-feature=+crt-static $(printf -- ' --remap-path-prefix=%s' "${paths[@]}")"
    CFLAGS=$(printf -- ' -ffile-prefix-map=%s' "${paths[@]}")
    export RUSTFLAGS CFLAGS
    # mimalloc's version text has the time of the build.
    export SOURCE_DATE_EPOCH=0 CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_TARGET_DIR=$target
    cargo build --locked --release --manifest-path "$root/Cargo.toml" --package proxy --bin openclaw-edge \
        --target "$1" >&2
    binary=$target/$1/release/openclaw-edge
}

roots() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$scratch/wheel" -r "$here/roots.txt" >&2 || fail "pip could not have deploy/image/roots.txt"
    python3 -m zipfile -e "$scratch"/wheel/certifi-*.whl "$scratch/wheel"
    cp "$scratch/wheel/certifi/cacert.pem" "$scratch/roots.pem"
}

# Of a copy: it writes beside each manifest. Folders, times and random numbers go out of it.
sbom() {
    mkdir "$scratch/source"
    cp -r "$root"/{Cargo.toml,Cargo.lock,config,acme,proxy,benches} "$scratch/source"
    (cd "$scratch/source" && SOURCE_DATE_EPOCH=0 cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$1" \
        --no-build-deps --manifest-path proxy/Cargo.toml --override-filename sbom >&2)
    local libc purl roots
    if libc=$(dpkg-query -W -f '${Version}' libc6-dev 2>/dev/null); then
        purl=pkg:deb/debian/glibc@${libc//+/%2B}
    else
        libc=$(getconf GNU_LIBC_VERSION | cut -d ' ' -f 2)
        purl=pkg:generic/glibc@$libc
    fi
    roots=$(sed -n 's/^certifi==\([^ ]*\).*/\1/p' "$here/roots.txt")
    python3 "$here/sbom.py" "$scratch/source" "$(epoch)" "glibc=$libc=$purl" \
        "certifi=$roots=pkg:pypi/certifi@$roots" <"$scratch/source/proxy/sbom.json" >"$scratch/sbom.cdx.json"
}

# Time and name of what is built: of the commit, or as the caller says.
epoch() { echo "${IMAGE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}"; }
revision() { git -C "$root" describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown; }

fail() {
    echo "image: $*" >&2
    exit 1
}

main "$@"
