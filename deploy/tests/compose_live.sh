#!/usr/bin/env bash
# deploy/compose/ brought up for real by Docker Compose, on Podman's socket, in a network of its own:
# the edge as uid 65532 with a read-only root and one capability binds 80 and 443, takes a certificate
# over, serves the gateway, reads a changed configuration, and is upgraded by the README's commands
# under load without a refused connection; the deploy workflow's steps, with a gateway that is well and
# with one that is not. The image is the shipped one, loaded from its archive. Takes root; a minute.
#
# What this machine may lack is set aside, and nothing else: the hard limit of open files, cgroups
# (limits of memory and processes), systemd (which runs Podman's health checks: here the test runs
# their command), and the gateway's own network. The gateway is played by a second edge.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
image=registry.openclaw.example/openclaw-edge:$(version)
gateway=registry.openclaw.example/openclaw-gateway:2026.9
tenant=acme-corp.gw.openclaw.example

outside() {
    [ "$(id -u)" = 0 ] || fail "takes root: containers are run"
    use docker-compose podman crun unshare openssl curl ip python3
    prepare
    # All that is started ends with the first process in there.
    unshare --mount --net --pid --fork --kill-child --mount-proc bash "$0" --inside "$scratch"
}

prepare() {
    mkdir -p "$scratch"/{state,today,gateway}
    cp -r "$deploy/compose" "$scratch/compose"
    image_of_the_binary "$scratch/image" >"$scratch/said" 2>&1 || { cat "$scratch/said" >&2; fail "no image"; }
    printf '[storage]\ndriver = "vfs"\nrunroot = "%s/run"\ngraphroot = "%s/graph"\n' "$scratch" "$scratch" \
        >"$scratch/storage.conf"
    echo "127.0.0.1 localhost $tenant" >"$scratch/hosts"
    cat >"$scratch/containers.conf" <<END
[containers]
cgroups = "disabled"
base_hosts_file = "$scratch/hosts"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
END
    gateway_answers 200 >"$scratch/gateway/before.yaml"
    gateway_answers 500 >"$scratch/gateway/broken.yaml"
    cat >"$scratch/override.yaml" <<END
services:
  edge:
    ulimits: { nofile: 9000, nproc: 9000 }
    mem_limit: !reset null
    pids_limit: !reset null
    healthcheck: { disable: true }
    # The authority of today's certificate, for the health gate.
    environment: { SSL_CERT_FILE: /run/trust/tls.crt }
    volumes: ["$scratch/trust:/run/trust:ro"]
  gateway:
    command: [run, --config, /gateway.yaml]
    ulimits: { nofile: 9000, nproc: 9000 }
    ports: !reset []
    networks: !reset []
    network_mode: host
END
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 60 -subj "/O=today" \
        -addext basicConstraints=critical,CA:FALSE -addext "subjectAltName=DNS:$tenant,DNS:acme-corp-bridge.gw.openclaw.example" \
        -keyout "$scratch/today/tls.key" -out "$scratch/today/tls.crt" 2>/dev/null
    install -D -m 0644 "$scratch/today/tls.crt" "$scratch/trust/tls.crt"
    chown -R 65532:65532 "$scratch"/{today,state}
    chmod 0700 "$scratch/state"
    chmod 0755 "$scratch"
    programs_of_the_workflow
}

# gateway_answers STATUS
gateway_answers() {
    cat <<END
version: 1
state_dir: /tmp/state
admin: { listen: "off" }
listeners:
  gateway: { bind: ["127.0.0.1:18789", "127.0.0.1:18790"] }
routes:
  any: { hosts: [$tenant, "127.0.0.1"], respond: { status: $1, body: '{"ok":true,"status":"live"}' } }
END
}

# The workflow's `ssh` leads to this machine, `docker` to Podman.
programs_of_the_workflow() {
    mkdir "$scratch/bin"
    cat >"$scratch/bin/ssh" <<'END'
#!/bin/sh
[ "$1" = deploy@vm.openclaw.example ] || exit 255
shift
exec sh -c "$*"
END
    cat >"$scratch/bin/docker" <<END
#!/bin/sh
[ "\$1" = compose ] || exec podman "\$@"
[ "\$2 \$3" = "--project-directory /srv/openclaw" ] || exit 64
shift 3
exec docker-compose -f $scratch/compose/compose.yaml -f $scratch/override.yaml "\$@"
END
    chmod 0755 "$scratch"/bin/*
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
    holds "podman load" podman load --quiet --input "$scratch/image/openclaw-edge-${image##*:}.oci.tar"
    holds "its name" podman image exists "$image"
    podman system service --time 0 "unix://$scratch/podman.sock" 2>"$scratch/service.log" &
    export DOCKER_HOST=unix://$scratch/podman.sock
    until_it_holds "Podman's socket" test -S "$scratch/podman.sock"

    gateway_images
    certificate_of_today
    up
    deployed
    changed_configuration
    upgraded_under_load
    done_with compose_live
}

compose() {
    timeout 60 docker-compose -f compose/compose.yaml -f override.yaml "$@"
}

until_it_holds() {
    local what=$1 end=$((SECONDS + 30))
    shift
    until "$@" >"$scratch/said" 2>&1; do
        [ $SECONDS -lt $end ] || { cat "$scratch/said" >&2; compose logs edge >&2; fail "waited in vain for $what"; }
        sleep 0.1
    done
    checks=$((checks + 1))
}

# The one that serves today, and one that is broken; both named as compose.yaml's once it is their turn.
gateway_images() {
    local one
    for one in before broken; do
        printf 'FROM %s\nCOPY %s.yaml /gateway.yaml\n' "$image" "$one" >gateway/Containerfile
        podman build --quiet --isolation=chroot --tag "gateway:$one" gateway >/dev/null || fail "no gateway"
    done
    podman tag gateway:before "$gateway"
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

# step NAME: a step of deploy-steps.yaml as the workflow runs it.
step() {
    python3 - compose/deploy-steps.yaml "$1" >step.sh <<'END'
import sys, yaml
[run] = [one["run"] for one in yaml.safe_load(open(sys.argv[1])) if one["name"] == sys.argv[2]]
print(run)
END
    PATH=$scratch/bin:$PATH HOST=vm.openclaw.example IMAGE_BEFORE=gateway:before timeout 60 bash -e step.sh
}

# A deploy that is well passes the gate at once; one that is not fails it after three attempts, and the
# next step brings the former gateway back.
deployed() {
    local begun=$SECONDS
    holds "a deploy" compose up -d --force-recreate gateway
    holds "the health gate" step "Health gate"
    [ $((SECONDS - begun)) -lt 30 ] || fail "the gate took $((SECONDS - begun)) s"
    podman tag gateway:broken "$gateway"
    holds "a broken deploy" compose up -d --force-recreate gateway
    begun=$SECONDS
    refused "a broken gateway" 500 step "Health gate"
    [ $((SECONDS - begun)) -ge 10 ] || fail "three attempts in $((SECONDS - begun)) s"
    holds "the way back" step "Roll back"
    holds "the health gate of the former gateway" step "Health gate"
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

# For three minutes at most: containers are slow to come on a busy machine.
client() {
    local end=$((SECONDS + 180))
    until [ -e "$scratch/enough" ]; do
        [ $SECONDS -lt $end ] || return 1
        curl --silent --show-error --fail --insecure --max-time 5 --resolve "$tenant:443:127.0.0.1" \
            "https://$tenant/healthz" >>"$scratch/answered" 2>"$scratch/failed.$1" || return 1
    done
}

if [ "${1:-}" = --inside ]; then inside "$2"; else outside; fi
