#!/usr/bin/env bash
# The systemd files, without a running systemd: their syntax, how much of the machine the unit can
# reach, the user and directories they make, and that the binary needs no system call which the unit
# forbids: that of the package, as the units are its. About 5 seconds.
#     OPENCLAW_EDGE_BIN=target/release/openclaw-edge deploy/tests/systemd.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/edge.sh"
units=$here/../systemd
edge=$(package_binary)
need systemd-analyze systemd-sysusers systemd-tmpfiles strace curl jq python3

work=$(mktemp -d)
process=
manager=
trap 'stop; rm -rf "$work"' EXIT

main() {
    install_unit "$work/plain"
    install_unit "$work/dropped" no-capability credentials
    verifies "$work/plain"
    install_unit "$work/socket" socket
    cp "$units/openclaw-edge.socket" "$work/socket/"
    verifies "$work/dropped"
    verifies "$work/socket" "$work/socket/openclaw-edge.socket"
    a_misspelt_key_is_found
    exposure_at_most 16 "$work/plain"
    exposure_at_most 12 "$work/dropped"
    exposure_at_most 12 "$work/socket"
    makes_the_user_and_directories
    needs_no_forbidden_call
    echo "systemd: ok"
}

# The unit and drop-ins as they would be installed, with the binary under test.
install_unit() {
    local dir=$1 part
    mkdir -p "$dir/openclaw-edge.service.d"
    sed "s#/usr/bin/openclaw-edge#$edge#" "$units/openclaw-edge.service" >"$dir/openclaw-edge.service"
    for part in "${@:2}"; do
        cp "$units/$part.conf" "$dir/openclaw-edge.service.d/"
    done
}

# Without recursive-errors a misspelt key is only a warning.
verifies() {
    local dir=$1
    SYSTEMD_UNIT_PATH=$dir: systemd-analyze verify --man=no --recursive-errors=yes \
        "$dir/openclaw-edge.service" "${@:2}" || fail "$dir: systemd-analyze verify"
}

a_misspelt_key_is_found() {
    install_unit "$work/broken"
    sed -i 's/^NoNewPrivileges/NoNewPriviledges/' "$work/broken/openclaw-edge.service"
    ! systemd-analyze verify --man=no --recursive-errors=yes "$work/broken/openclaw-edge.service" \
        2>/dev/null || fail "verify passes over a misspelt key"
}

# In tenths, as systemd-analyze has it: 16 is 1.6.
exposure_at_most() {
    local said
    said=$(systemd-analyze security --offline=true --no-pager --threshold="$1" \
        "$2/openclaw-edge.service" | tail -n 1) || fail "more than $1 tenths: $said"
    echo "$said (at most $1 tenths)"
    ! systemd-analyze security --offline=true --threshold=1 "$2/openclaw-edge.service" >/dev/null ||
        fail "the threshold has no effect"
}

makes_the_user_and_directories() {
    local root=$work/root
    mkdir -p "$root/etc"
    systemd-sysusers --root="$root" "$units/sysusers.d/openclaw-edge.conf" 2>/dev/null
    grep -q '^openclaw-edge:x:[0-9]*:[0-9]*:.*:/var/lib/openclaw-edge:.*nologin$' "$root/etc/passwd" ||
        fail "sysusers made no user: $(cat "$root/etc/passwd")"
    # tmpfiles wants the right to give directories away, as on a real machine.
    [ "$(id -u)" -eq 0 ] || fail "systemd-tmpfiles is tried as root only"
    systemd-tmpfiles --root="$root" --create "$units/tmpfiles.d/openclaw-edge.conf"
    local uid
    uid=$(awk -F: '$1 == "openclaw-edge" { print $3 }' "$root/etc/passwd")
    has_mode "$root/etc/openclaw-edge" "750 0 $uid"
    has_mode "$root/etc/openclaw-edge/credentials" "700 0 0"
    has_mode "$root/var/lib/openclaw-edge" "700 $uid $uid"
}

has_mode() {
    local is
    is=$(stat -c '%a %u %g' "$1")
    [ "$is" = "$2" ] || fail "$1 is $is, not $2"
}

# Start, a request over TLS, a reload by signal, a drain: every system call on the way is one that
# the unit's filter lets through. Credentials are read as the unit hands them over.
needs_no_forbidden_call() {
    echo -n "x-secret" >"$work/edge-token"
    edge_config >"$work/edge.yaml"
    local seen=$work/calls
    manager
    NOTIFY_SOCKET=$work/notify WATCHDOG_USEC=1000000 CREDENTIALS_DIRECTORY=$work strace -f -qq -o "$seen" "$edge" run --config "$work/edge.yaml" \
        >"$work/out" 2>"$work/err" &
    process=$!
    wait_for 30 "readiness" ready
    local port
    port=$(curl -fsS "$(admin)/readyz" | jq -r '.listeners[0].address | sub("^.*:"; "")')
    curl -fsS --cacert "$work/state/internal/ca.pem" --resolve "app.openclaw.example:$port:127.0.0.1" \
        "https://app.openclaw.example:$port/" >"$work/body"
    grep -q Hello "$work/body" || fail "no answer over TLS: $(cat "$work/body")"
    sed -i 's/Hello/Good morning/' "$work/edge.yaml"
    kill -HUP "$(edge_pid)"
    wait_for 30 "the reload" reloaded
    # It comes by the clock, half a second after the start.
    wait_for 30 "WATCHDOG=1" grep -qx WATCHDOG=1 "$work/told"
    kill -TERM "$(edge_pid)"
    wait "$process" || fail "run ended badly: $(tail -n 5 "$work/err")"
    process=
    hears READY=1 WATCHDOG=1 RELOADING=1 STOPPING=1
    python3 "$here/systemd/calls.py" "$units/openclaw-edge.service" "$seen"
}

edge_config() {
    cat <<-END
	version: 1
	state_dir: $work/state
	admin: { listen: "127.0.0.1:0", socket: $work/admin.sock }
	listeners:
	  https: { bind: ["127.0.0.1:0"], tls: {} }
	issuers: { local: { internal: {} } }
	upstreams:
	  gone: { endpoints: ["127.0.0.1:9"], health: { type: tcp, interval: 1s } }
	routes:
	  app:
	    hosts: [app.openclaw.example]
	    respond: { status: 200, body: Hello }
	    headers: { response: { set: { x-token: "\${cred:edge-token}" } } }
	  gone: { hosts: [gone.openclaw.example], upstream: gone }
	END
}

# What the process tells its service manager goes to a file.
manager() {
    python3 - "$work/notify" >"$work/told" <<-'END' &
	import socket, sys
	manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	manager.bind(sys.argv[1])
	while True:
	    print(manager.recv(4096).decode(), flush=True)
	END
    manager=$!
    wait_for 10 "the manager's socket" test -S "$work/notify"
}

hears() {
    local one
    for one; do
        wait_for 10 "$one" grep -qx "$one" "$work/told"
    done
    kill "$manager"
    manager=
}

admin() { sed -n 's/.*admin server on \(http:[^ ]*\).*/\1/p' "$work/err"; }

ready() { [ -n "$(admin)" ] && curl -fsS -o "$work/ready" "$(admin)/readyz" 2>/dev/null; }

# Not `grep -q`: it would leave before curl has written all.
reloaded() { curl -fsS "$(admin)/metrics" | grep '^edge_config_generation 2$' >"$work/generation"; }

edge_pid() { cat "/proc/$process/task/$process/children"; }

# Ending the tracer alone would leave the edge.
stop() {
    [ -z "$manager" ] || kill "$manager" 2>/dev/null || true
    [ -z "$process" ] || kill "$(edge_pid)" "$process" 2>/dev/null || true
}

main
