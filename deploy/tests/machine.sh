# A Debian of its own for a test: PID 1 is systemd, in namespaces and a network of loopback alone,
# its root the one that setup.sh has made, under a layer in memory that goes with it. To be sourced
# after lib.sh and `use`. Takes root.
# shellcheck shell=bash

machine=
# Processes of ours in its network.
clients=()

machine_starts() {
    [ "$(id -u)" -eq 0 ] || fail "takes root: namespaces and mounts"
    local base
    base=$(machine_base)
    [ -d "$base" ] || fail "no $base: run deploy/tests/setup.sh"
    trap 'machine_ends $?; rm -rf "$scratch"' EXIT
    mkdir -p "$scratch/machine"
    # Its services are counted in a cgroup of its own, or they would be in ours.
    cgroups=$(findmnt --types cgroup2 --noheadings --output TARGET --first-only) || fail "no cgroup2 is mounted"
    cgroup=$cgroups/openclaw-edge-test.$$
    mkdir "$cgroup"
    (
        echo "$BASHPID" >"$cgroup/cgroup.procs"
        exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child \
            bash "$here/machine/init.sh" "$base" "$scratch/machine"
    ) >"$scratch/machine.log" 2>&1 &
    unshare=$!
    until_it_holds "PID 1" machine_has_begun
    until_it_holds "systemd" machine_is_up
}

machine_has_begun() {
    machine=$(cat "/proc/$unshare/task/$unshare/children") && machine=${machine% } && [ -n "$machine" ] &&
        [ "$(cat "/proc/$machine/comm")" = systemd ]
}

# `degraded` is as good: nobody asks what else such a Debian would like to have.
machine_is_up() {
    local state
    state=$(inside systemctl is-system-running) || true
    [ "$state" = running ] || [ "$state" = degraded ]
}

# A command in the machine.
inside() {
    nsenter --target "$machine" --mount --pid --net --uts --ipc --cgroup --root --wd \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
}

# A command of this machine in the network of that one.
beside() { nsenter --target "$machine" --net "$@"; }

# A file of the machine, as seen from here.
there() { echo "/proc/$machine/root$1"; }

# until_it_holds WHAT COMMAND...: for 30 seconds.
until_it_holds() {
    local what=$1 end=$((SECONDS + 30))
    shift
    until "$@" >"$scratch/said" 2>&1; do
        [ $SECONDS -lt $end ] || fail "waited in vain for $what"
        sleep 0.05
    done
    checks=$((checks + 1))
}

machine_says() {
    cat "$scratch/said" "$scratch/machine.log" || true
    [ -z "$machine" ] || inside journalctl --no-pager --lines 40 --unit openclaw-edge --unit openclaw-edge.socket 2>/dev/null || true
}

# The first process of its namespace: with it end all others, and the mounts.
machine_ends() {
    [ "$1" -eq 0 ] || machine_says >&2
    [ ${#clients[@]} -eq 0 ] || { kill -KILL "${clients[@]}"; wait "${clients[@]}"; } 2>/dev/null || true
    [ -z "$machine" ] || kill -KILL "$machine" 2>/dev/null || true
    [ -z "${unshare:-}" ] || { kill -KILL "$unshare"; wait "$unshare"; } 2>/dev/null || true
    machine=
    local left=100
    until [ ! -d "${cgroup:-}" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null; do
        [ $((left -= 1)) -gt 0 ] || { echo "${0##*/}: $cgroup stays" >&2; break; }
        sleep 0.1
    done
}

# === the edge in it ===

# edge_installed DEB: as a user would; apt finds what it needs in the machine.
edge_installed() {
    cp "$1" "$(there /tmp/openclaw-edge.deb)"
    holds "apt-get install" inside apt-get install --yes --no-install-recommends --option Dpkg::Options::=--force-confold \
        /tmp/openclaw-edge.deb
}

# A configuration for traffic.py, and its backend.
edge_configured() {
    sed -i '/^routes:/,$d; /^# upstreams/,/^$/d' "$(there /etc/openclaw-edge/edge.yaml)"
    cat >>"$(there /etc/openclaw-edge/edge.yaml)" <<'YAML'
upstreams:
  app: { endpoints: ["127.0.0.1:3000"], health: { type: tcp, interval: 1s } }

routes:
  app: { hosts: [app.openclaw.example], upstream: app }
  generation: { hosts: [app.openclaw.example], path: /generation, respond: { status: 200, body: "generation 0" } }
YAML
    holds "check" inside openclaw-edge check
    # Not by a function: $! is the client itself.
    nsenter --target "$machine" --net python3 "$here/machine/traffic.py" backend 3000 >"$scratch/backend.log" 2>&1 &
    clients+=($!)
    until_it_holds "the backend" beside curl --silent --output /dev/null http://127.0.0.1:3000/
}

# As deploy/systemd/README.md says.
edge_on_socket() {
    inside mkdir -p /etc/systemd/system/openclaw-edge.service.d
    holds "the drop-in" inside ln -s /usr/share/openclaw-edge/socket.conf /etc/systemd/system/openclaw-edge.service.d/
    holds "daemon-reload" inside systemctl daemon-reload
    holds "stop" inside systemctl stop openclaw-edge
    holds "enable" inside systemctl enable openclaw-edge
    holds "the socket" inside systemctl enable --now openclaw-edge.socket
    holds "start" inside systemctl start openclaw-edge
}

edge_serves() {
    until_it_holds "readiness" inside openclaw-edge healthcheck --socket /run/openclaw-edge/admin.sock
    cp "$(there /var/lib/openclaw-edge/internal/ca.pem)" "$scratch/ca.pem"
    until_it_holds "an answer" asks /
}

# asks PATH [CURL ARGUMENT...]: the body.
asks() {
    beside curl --silent --show-error --fail --max-time 40 --cacert "$scratch/ca.pem" \
        --resolve app.openclaw.example:443:127.0.0.1 "https://app.openclaw.example$1" "${@:2}"
}

main_pid() { inside systemctl show --property MainPID --value openclaw-edge; }

# traffic_begins NAME VERB [ARGUMENT...]: until traffic_ends; to be seen in $scratch/NAME.json.
declare -A traffic=()
traffic_begins() {
    rm -f "$scratch/$1.json"
    nsenter --target "$machine" --net python3 "$here/machine/traffic.py" "$2" "$scratch/ca.pem" "$scratch/$1.json" "${@:3}" \
        >"$scratch/$1.log" 2>&1 &
    clients+=($!)
    traffic[$1]=$!
    until_it_holds "$1" test -s "$scratch/$1.json"
}

traffic_ends() {
    kill -TERM "${traffic[$1]}"
    wait "${traffic[$1]}" || { cat "$scratch/$1.log" >&2; fail "$1 ended badly"; }
}

# of NAME FILTER: a number of what traffic has seen; sees NAME CONDITION: what must hold of it.
of() { jq --raw-output "$2" "$scratch/$1.json"; }
sees() { jq --exit-status "$2" "$scratch/$1.json" >"$scratch/said" || { cat "$scratch/$1.json" >&2; return 1; }; }
must_see() { sees "$1" "$2" || fail "$1 is not '$2'"; checks=$((checks + 1)); }

# Milliseconds since some time.
now() { echo $(($(date +%s%N) / 1000000)); }
