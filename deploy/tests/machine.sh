# A Debian of its own for a test: PID 1 is systemd, in namespaces and a network of loopback alone,
# its root the one that setup.sh has made, under a layer in memory that goes with it. To be sourced
# after lib.sh and `use`. Takes root.
# shellcheck shell=bash

machine=

machine_starts() {
    [ "$(id -u)" -eq 0 ] || fail "takes root: namespaces and mounts"
    local base
    base=$(machine_base)
    [ -d "$base" ] || fail "no $base: run deploy/tests/setup.sh"
    trap 'machine_ends; rm -rf "$scratch"' EXIT
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
        [ $SECONDS -lt $end ] || { machine_says >&2; fail "waited in vain for $what"; }
        sleep 0.05
    done
    checks=$((checks + 1))
}

machine_says() {
    cat "$scratch/said" "$scratch/machine.log"
    [ -z "$machine" ] || inside journalctl --no-pager --lines 40 --unit openclaw-edge --unit openclaw-edge.socket 2>/dev/null || true
}

# The first process of its namespace: with it end all others, and the mounts.
machine_ends() {
    [ -z "$machine" ] || kill -KILL "$machine" 2>/dev/null || true
    [ -z "${unshare:-}" ] || { kill -KILL "$unshare"; wait "$unshare"; } 2>/dev/null || true
    machine=
    local left=100
    until [ ! -d "${cgroup:-}" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null; do
        [ $((left -= 1)) -gt 0 ] || { echo "${0##*/}: $cgroup stays" >&2; break; }
        sleep 0.1
    done
}
