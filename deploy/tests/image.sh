#!/usr/bin/env bash
# deploy/image/ built without a container engine, twice with the same digest; its content; then run by
# runc as kubelet runs a pod (uid 65532, read-only root, one capability, none inherited, no new
# privileges) in a network of its own, where it binds 80 and 443, serves, and reloads from a mounted
# directory that is swapped as kubelet does it; and by podman. Takes root; half a minute. The binary is
# the one under test, if it is static; else one is built, 4 minutes of two cores.
# With TWO_FOLDERS=1 it builds the binary once more, in another folder, and wants that digest again.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
version=$(version)
reference=registry.openclaw.example/openclaw-edge:$version
host=app.openclaw.example

outside() {
    [ "$(id -u)" = 0 ] || fail "takes root: containers are run"
    use hadolint skopeo umoci runc podman crun setcap unshare curl ip kubectl helm docker-compose python3
    image_of_the_binary "$scratch/one" >"$scratch/built" || fail "not built"
    digest=$(sed -n 's/^digest *//p' "$scratch/built")
    same_digest
    [ -z "${TWO_FOLDERS:-}" ] || two_folders
    content
    named_everywhere
    containerfile
    unpack
    # All that is started ends with the first process in there.
    unshare --mount --net --pid --fork --kill-child --mount-proc bash "$0" --inside "$scratch"
    checks=$((checks + $(cat "$scratch/checks")))
    echo "image: $reference, $digest, $size bytes compressed"
    done_with image
}

# The same binary again: everything else is made again.
same_digest() {
    image_of_the_binary "$scratch/two" >"$scratch/again" || fail "not built again"
    holds "the same digest twice" grep -qx "digest *$digest" "$scratch/again"
    holds "the same files twice" diff --recursive "$scratch/one" "$scratch/two"
    refused "a binary that needs libraries" "not static" bash "$deploy/image/build.sh" --out "$scratch/three" --binary /bin/true
}

# A clone with what is not committed yet, in a folder with another name and another length of name.
two_folders() {
    local root other=$scratch/a-folder-with-another-name
    root=$(git -C "$deploy" rev-parse --show-toplevel)
    git clone --quiet "$root" "$other"
    git -C "$root" ls-files -z --cached --others --exclude-standard |
        tar -C "$root" --null --files-from - --ignore-failed-read -c | tar -C "$other" -x
    CARGO_TARGET_DIR=$scratch/another-target bash "$other/deploy/image/build.sh" --out "$scratch/other" >"$scratch/again" ||
        fail "not built in another folder"
    holds "the same digest in two folders" grep -qx "digest *$digest" "$scratch/again"
    rm -rf "$scratch/another-target"
}

content() {
    holds "content" python3 "$here/image.py" layout "$scratch/one/oci"
    size=$(cat "$scratch/said")
    holds "skopeo inspect" skopeo inspect "oci:$scratch/one/oci:$version"
    grep -qF "\"$digest\"" "$scratch/said" || fail "skopeo has another digest: $(cat "$scratch/said")"
    holds "skopeo copy" skopeo copy --quiet --insecure-policy "oci-archive:$scratch/one/openclaw-edge-$version.oci.tar" \
        "docker-archive:$scratch/copied.tar:$reference"
    rm "$scratch/copied.tar"
}

# kustomize, chart and Compose run this image, by this program and as this user.
named_everywhere() {
    local folder=$deploy/kubernetes/overlays/k3s-hostnetwork what
    kubectl kustomize "$folder" >"$scratch/kustomize.yaml"
    helm template edge "$deploy/helm/openclaw-edge" --set-json 'config={"version":1}' >"$scratch/helm.yaml"
    docker-compose --file "$deploy/compose/compose.yaml" config >"$scratch/compose.yaml"
    for what in kustomize helm compose; do
        holds "$what names the image" grep -qE "image: \"?$reference\"?\$" "$scratch/$what.yaml"
        holds "$what names its program" grep -qF /usr/bin/openclaw-edge "$scratch/$what.yaml"
        holds "$what names its user" grep -qF 65532 "$scratch/$what.yaml"
    done
}

containerfile() {
    holds "hadolint" hadolint "$deploy/image/Containerfile"
    sed 's/^USER .*/USER root/; s/--no-install-recommends//' "$deploy/image/Containerfile" >"$scratch/bad"
    refused "a Containerfile with root at the end" DL3002 hadolint "$scratch/bad"
}

unpack() {
    umoci unpack --image "$scratch/one/oci:$version" "$scratch/bundle" >"$scratch/said" 2>&1 ||
        { cat "$scratch/said" >&2; fail "umoci cannot unpack it"; }
    local config
    config=$(skopeo inspect --raw "oci:$scratch/one/oci:$version" | python3 -c 'import json, sys; print(json.load(sys.stdin)["config"]["digest"])')
    cp "$scratch/one/oci/blobs/${config/://}" "$scratch/config.json"
}

inside() {
    use runc podman setcap curl
    rm -rf "$scratch"
    scratch=$1
    trap - EXIT
    cd "$scratch"
    ip link set lo up
    umount --lazy /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # What the engines keep outside the folder.
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/lib
    chmod 0755 "$scratch"
    python3 "$here/dns.py" 127.0.0.53 web.platform.svc.cluster.local=127.0.0.1 &
    mkdir www
    echo "behind it" >www/app
    python3 -m http.server --bind 127.0.0.1 --directory www 3000 >www.log 2>&1 &
    pod_directories
    # Port 443 of this machine's own network is nobody's here: the file capability gives it.
    container pod run --config /etc/openclaw-edge/edge.yaml
    until_ready pod
    confined
    served
    swapped
    stopped
    by_podman
    bare
    echo "$checks" >"$scratch/checks"
}

# What kubelet mounts: the ConfigMap as links to a directory that is exchanged whole, the state, an
# emptyDir for the socket, and the files that lead to the cluster's names.
pod_directories() {
    mkdir -p map state run
    chown 65532:65532 state run
    chmod 0700 state run
    echo "nameserver 127.0.0.53" >resolv.conf
    echo "127.0.0.1 localhost" >hosts
    ln -s ..data/edge.yaml map/edge.yaml
    kubelet_writes one
}

# A new directory, then the link to it by rename, then the old directory goes: as AtomicWriter does.
kubelet_writes() {
    local old new
    old=$(readlink map/..data || true)
    new=$(mktemp -d map/..2026_XXXXXX)
    chmod 0755 "$new"
    cat >"$new/edge.yaml" <<END
version: 1
admin: { listen: "off", socket: /run/openclaw-edge/admin.sock }
listeners:
  http: { bind: ["[::]:80"], redirect_to: https }
  https: { bind: ["[::]:443"], tls: {} }
issuers:
  local: { internal: {} }
upstreams:
  web: { endpoints: ["web.platform.svc.cluster.local:3000"] }
  outside: { endpoints: ["web.platform.svc.cluster.local:3001"], tls: {} }
routes:
  app: { hosts: [$host], path: /app, upstream: web }
  outside: { hosts: [$host], path: /outside, upstream: outside }
  edition: { hosts: [$host], respond: { status: 200, body: "edition $1" } }
END
    ln -s "$(basename "$new")" map/..data_tmp
    mv -T map/..data_tmp map/..data
    [ -z "$old" ] || rm -r "map/$old"
}

# container NAME ARGUMENT...
container() {
    local name=$1
    mkdir -p "$name"
    python3 "$here/image.py" bundle "$scratch/bundle/rootfs" config.json "$name/config.json" \
        "$scratch/map:/etc/openclaw-edge:ro" "$scratch/state:/var/lib/openclaw-edge" "$scratch/run:/run/openclaw-edge" \
        "$scratch/resolv.conf:/etc/resolv.conf:ro" "$scratch/hosts:/etc/hosts:ro" -- "${@:2}"
    runc --root "$scratch/runc" run --detach --bundle "$name" "$name" </dev/null >"$name/stdout" 2>"$name/stderr" ||
        { cat "$name/stderr" >&2; fail "runc does not run it"; }
}

in_pod() { runc --root "$scratch/runc" exec pod /usr/bin/openclaw-edge "$@"; }

until_ready() {
    until_it_holds "the health check" in_pod healthcheck --socket /run/openclaw-edge/admin.sock
}

until_it_holds() {
    local what=$1 end=$((SECONDS + 30))
    shift
    until "$@" >said 2>&1; do
        [ $SECONDS -lt $end ] || { cat said pod/stderr >&2; fail "waited in vain for $what"; }
        sleep 0.1
    done
    checks=$((checks + 1))
}

confined() {
    local process
    process=$(runc --root "$scratch/runc" state pod | python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])')
    holds "uid 65532" grep -q '^Uid:.65532.65532.65532.65532' "/proc/$process/status"
    holds "gid 65532" grep -q '^Gid:.65532.65532.65532.65532' "/proc/$process/status"
    # Number 10 and no other; nothing that a child would have.
    holds "one capability" grep -q '^CapBnd:.0000000000000400$' "/proc/$process/status"
    holds "none is inherited" grep -q '^CapAmb:.0000000000000000$' "/proc/$process/status"
    holds "no new privileges" grep -q '^NoNewPrivs:.1$' "/proc/$process/status"
    refused "a file in the root" "Read-only file system" touch "/proc/$process/root/file"
    refused "a shell" "no such file" runc --root "$scratch/runc" exec pod /bin/sh
}

served() {
    holds "port 80" curl --silent --fail --max-time 5 --output /dev/null --write-out '%{http_code} %{redirect_url}' \
        --resolve "$host:80:127.0.0.1" "http://$host/"
    grep -qx "308 https://$host/" said || fail "another redirect: $(cat said)"
    holds "port 443" edition one
    # The resolver of the data plane, by a server and by no file.
    until_it_holds "a name of the cluster" says app "behind it"
    # The authorities are found: without them this upstream is refused.
    holds "a config with TLS to an upstream" in_pod check --config /etc/openclaw-edge/edge.yaml
    # The C library's own resolver, which a static binary has in itself.
    holds "healthcheck by a name of DNS" in_pod healthcheck http://web.platform.svc.cluster.local:3000/app
    holds "healthcheck by a name of /etc/hosts" in_pod healthcheck http://localhost:3000/app
    refused "a name that is not there" "not-there.openclaw.example" in_pod healthcheck http://not-there.openclaw.example/
}

says() {
    curl --silent --show-error --fail --insecure --max-time 5 --resolve "$host:443:127.0.0.1" "https://$host/$1" | grep -qF "$2"
}

edition() { says "" "edition $1"; }

swapped() {
    local one
    for one in two three; do
        kubelet_writes "$one"
        until_it_holds "edition $one" edition "$one"
    done
}

stopped() {
    runc --root "$scratch/runc" kill pod TERM
    until_it_holds "the end" has_ended
    runc --root "$scratch/runc" delete pod
}

has_ended() { runc --root "$scratch/runc" state pod | grep -q '"status": "stopped"'; }

# The archive as engines load it, under Podman's own seccomp filter.
by_podman() {
    printf '[storage]\ndriver = "vfs"\nrunroot = "%s/prun"\ngraphroot = "%s/graph"\n' "$scratch" "$scratch" >storage.conf
    printf '[containers]\ncgroups = "disabled"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "crun"\n' \
        >containers.conf
    export CONTAINERS_STORAGE_CONF=$scratch/storage.conf CONTAINERS_CONF=$scratch/containers.conf
    holds "podman load" podman load --quiet --input "$scratch/one/openclaw-edge-$version.oci.tar"
    grep -qF "$reference" said || fail "loaded under another name: $(cat said)"
    holds "podman run" podman run --detach --name pod --network host --read-only --cap-drop all \
        --cap-add NET_BIND_SERVICE --security-opt no-new-privileges --ulimit nofile=9000:9000 --ulimit nproc=9000:9000 \
        --volume "$scratch/map:/etc/openclaw-edge:ro" --volume "$scratch/state:/var/lib/openclaw-edge" \
        --volume "$scratch/run:/run/openclaw-edge" "$reference"
    until_it_holds "the health check under Podman" podman exec pod openclaw-edge healthcheck --socket /run/openclaw-edge/admin.sock
    holds "served under Podman" edition three
    kubelet_writes four
    until_it_holds "edition four" edition four
    holds "podman stop" podman stop pod
    written_by_the_engine
}

# The last stage of the Containerfile, from what the image holds: an engine's config is ours.
written_by_the_engine() {
    local field
    cp -a "$scratch/bundle/rootfs" "$scratch/context"
    sed -n '/^FROM scratch/,$p' "$deploy/image/Containerfile" | sed 's#^COPY --from=build /image/ /#COPY context/ /#' >Containerfile
    holds "podman build" podman build --quiet --isolation=chroot --tag written --file Containerfile .
    for field in User ExposedPorts Env Entrypoint Cmd WorkingDir; do
        holds "the engine's $field" test "$(podman inspect -f "{{json .Config.$field}}" written)" = \
            "$(podman inspect -f "{{json .Config.$field}}" "$reference")"
    done
}

# The control: it was the file capability that opened the ports.
bare() {
    setcap -r "$scratch/bundle/rootfs/usr/bin/openclaw-edge"
    container without run --config /etc/openclaw-edge/edge.yaml
    until_it_holds "a refused port" grep -q "Permission denied" without/stderr
    # Its cgroup is this machine's.
    runc --root "$scratch/runc" delete --force without
}

case ${1:-} in
--inside) inside "$2" ;;
*) outside ;;
esac
