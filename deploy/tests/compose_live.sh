#!/usr/bin/env bash
# deploy/compose/ brought up for real by Docker Compose, on Podman's socket, in a network of its own:
# the edge as uid 65532 with a read-only root and one capability binds 80 and 443, takes a certificate
# over, serves the gateway, reads a changed configuration, and is upgraded by the README's commands
# under load without a refused connection. Takes root; about half a minute.
#
# What this machine may lack is set aside, and nothing else: the hard limit of open files, cgroups
# (limits of memory and processes), systemd (which runs Podman's health checks: here the test runs
# their command), and the gateway's own network. The gateway is played by a second edge.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
image=registry.openclaw.example/openclaw-edge:0.1.0
tenant=acme-corp.gw.openclaw.example

outside() {
    [ "$(id -u)" = 0 ] || fail "takes root: containers are run"
    use docker-compose podman crun unshare setcap openssl curl ip
    local edge
    edge=$(edge_binary)
    prepare "$edge"
    # All that is started ends with the first process in there.
    unshare --mount --net --pid --fork --kill-child --mount-proc bash "$0" --inside "$scratch"
}

prepare() {
    mkdir -p "$scratch"/{state,today,gateway,root}
    cp -r "$deploy/compose" "$scratch/compose"
    image_root "$1" "$scratch/root"
    printf '[storage]\ndriver = "vfs"\nrunroot = "%s/run"\ngraphroot = "%s/graph"\n' "$scratch" "$scratch" \
        >"$scratch/storage.conf"
    cat >"$scratch/containers.conf" <<'END'
[containers]
cgroups = "disabled"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
END
    cat >"$scratch/gateway/edge.yaml" <<END
version: 1
state_dir: /tmp/state
admin: { listen: "off" }
listeners:
  gateway: { bind: ["127.0.0.1:18789", "127.0.0.1:18790"] }
routes:
  any: { hosts: [$tenant, "127.0.0.1"], respond: { status: 200, body: '{"ok":true,"status":"live"}' } }
END
    cat >"$scratch/override.yaml" <<END
services:
  edge:
    ulimits: { nofile: 9000, nproc: 9000 }
    mem_limit: !reset null
    pids_limit: !reset null
    healthcheck: { disable: true }
  gateway:
    image: $image
    command: [run, --config, /gateway/edge.yaml]
    volumes: ["$scratch/gateway:/gateway:ro"]
    ulimits: { nofile: 9000, nproc: 9000 }
    ports: !reset []
    networks: !reset []
    network_mode: host
END
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 60 -subj "/O=today" \
        -addext "subjectAltName=DNS:$tenant,DNS:acme-corp-bridge.gw.openclaw.example" \
        -keyout "$scratch/today/tls.key" -out "$scratch/today/tls.crt" 2>/dev/null
    chown -R 65532:65532 "$scratch"/{today,state}
    chmod 0700 "$scratch/state"
    chmod 0755 "$scratch"
}

# The binary and the libraries that it names, if any, with the file capability; nothing else.
image_root() {
    local library
    mkdir -p "$2"/{usr/bin,etc/ssl/certs,tmp}
    chmod 1777 "$2/tmp"
    cp "$1" "$2/usr/bin/openclaw-edge"
    for library in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*' || true); do
        mkdir -p "$2${library%/*}"
        cp -L "$library" "$2$library"
    done
    setcap cap_net_bind_service=+ep "$2/usr/bin/openclaw-edge"
    printf 'FROM scratch\nCOPY root/ /\nENTRYPOINT ["/usr/bin/openclaw-edge"]\nUSER 65532:65532\n' \
        >"$scratch/Containerfile"
}

inside() {
    use docker-compose podman curl
    rm -rf "$scratch"
    scratch=$1
    trap - EXIT
    cd "$scratch"
    export CONTAINERS_STORAGE_CONF=$scratch/storage.conf CONTAINERS_CONF=$scratch/containers.conf
    ip link set lo up
    # As the README says.
    echo 1 >/proc/sys/net/ipv4/tcp_migrate_req
    umount --lazy /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # What Podman keeps outside the folders above.
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/lib
    mkdir /var/lib/openclaw-edge
    mount --bind "$scratch/state" /var/lib/openclaw-edge
    podman build --quiet --isolation=chroot -t "$image" . >/dev/null || fail "no image"
    podman system service --time 0 "unix://$scratch/podman.sock" 2>"$scratch/service.log" &
    export DOCKER_HOST=unix://$scratch/podman.sock
    until_it_holds "Podman's socket" test -S "$scratch/podman.sock"

    certificate_of_today
    up
    changed_configuration
    upgraded_under_load
    done_with compose_live
}

compose() {
    timeout 60 docker-compose -f compose/compose.yaml -f override.yaml "$@"
}

until_it_holds() {
    local what=$1 left=100
    shift
    until "$@" >"$scratch/said" 2>&1; do
        [ $((left -= 1)) -gt 0 ] || { cat "$scratch/said" >&2; compose logs edge >&2; fail "waited in vain for $what"; }
        sleep 0.1
    done
    checks=$((checks + 1))
}

# No CA can be asked here: with an ACME issuer what was imported serves, and nothing is ordered.
certificate_of_today() {
    holds "check" compose run --rm edge check
    holds "certs import" compose run --rm --volume "$scratch/today:/run/adopt:ro" edge certs import /run/adopt
    grep -q "1 usable, 0 refused" "$scratch/said" || fail "nothing imported: $(cat "$scratch/said")"
}

up() {
    holds "up" compose up -d
    until_it_holds "the health check" compose exec -T edge /usr/bin/openclaw-edge healthcheck --socket /run/openclaw-edge/admin.sock
    until_it_holds "the gateway's answer" answers healthz '"ok":true'
    holds "TLS" curl --silent --verbose --insecure --resolve "$tenant:443:127.0.0.1" "https://$tenant/healthz"
    grep -q 'subject: O=today' "$scratch/said" || fail "another certificate than the one of today: $(cat "$scratch/said")"
    local process
    process=$(podman inspect -f '{{.State.Pid}}' "$(compose ps --quiet edge)")
    holds "uid 65532" grep -q '^Uid:.65532.65532' "/proc/$process/status"
    # Of all capabilities, number 10.
    holds "one capability" grep -q '^CapBnd:.0000000000000400$' "/proc/$process/status"
    holds "no new privileges" grep -q '^NoNewPrivs:.1$' "/proc/$process/status"
    refused "a file in the root" "Read-only file system" touch "/proc/$process/root/file"
}

answers() {
    curl --silent --fail --insecure --max-time 5 --resolve "$tenant:443:127.0.0.1" "https://$tenant/$1" | grep -qF "$2"
}

changed_configuration() {
    sed -i "s#^routes:#routes:\n  new: { hosts: [$tenant], path: /new, respond: { status: 200, body: changed } }#" compose/etc/edge.yaml
    until_it_holds "the changed configuration" answers new changed
}

# The README's commands, with clients that open connection after connection.
upgraded_under_load() {
    local old new one clients=()
    for one in 1 2 3 4; do
        client "$one" &
        clients+=($!)
    done
    until_it_holds "requests" test -s "$scratch/answered"
    old=$(compose ps --quiet edge)
    holds "a second container" compose up -d --no-recreate --scale edge=2 --wait edge
    [ "$(compose ps --quiet edge | wc -l)" = 2 ] || fail "there are not two containers"
    new=$(compose ps --quiet edge | grep -v "$old")
    until_it_holds "the second one's health check" podman exec "$new" \
        /usr/bin/openclaw-edge healthcheck --socket /run/openclaw-edge/admin.sock
    holds "docker stop" podman stop "$old"
    holds "docker rm" podman rm "$old"
    : >"$scratch/answered"
    until_it_holds "requests afterwards" test -s "$scratch/answered"
    touch "$scratch/enough"
    for one in "${clients[@]}"; do
        wait "$one" || fail "a request failed: $(cat "$scratch"/failed.*)"
    done
    holds "up once more" compose up -d
    [ "$(compose ps --quiet edge)" = "$new" ] || fail "the new container does not stay"
    holds "down" compose down --timeout 5
}

# For a minute at most.
client() {
    local end=$((SECONDS + 60))
    until [ -e "$scratch/enough" ]; do
        [ $SECONDS -lt $end ] || return 1
        curl --silent --show-error --fail --insecure --max-time 5 --resolve "$tenant:443:127.0.0.1" \
            "https://$tenant/healthz" >>"$scratch/answered" 2>"$scratch/failed.$1" || return 1
    done
}

if [ "${1:-}" = --inside ]; then inside "$2"; else outside; fi
