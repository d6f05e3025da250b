#!/usr/bin/env bash
# The end of a DaemonSet's pod as slow as it may be: the overlay's own edge.yaml and command line, with
# WebSockets and event streams open when SIGTERM comes. New connections are refused at once; a stream
# goes on to its own end; those that have none go on until `drain.deadline` (330 s) cuts them, and the
# process ends with 0 before kubelet's patience (terminationGracePeriodSeconds) does. Takes root; six
# minutes, nearly all of it waiting. replace.sh has the pods that overlap.
#     OPENCLAW_EDGE_BIN=target/release/openclaw-edge deploy/tests/drain.sh [DEADLINE IN SECONDS]
#
# Only by make test-deploy.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$here/pod.sh"

outside() {
    [ "$(id -u)" = 0 ] || fail "takes root: makes a network of its own"
    use kubectl python3 unshare openssl ip jq curl
    edge_binary >"$scratch/edge"
    from_the_overlay
    [ $# -eq 0 ] || other_deadline "$1"
    certificate_of_today
    # All that is started ends with the first process in there.
    unshare --mount --net --pid --fork --kill-child --mount-proc bash "$0" --inside "$scratch"
    checks=$((checks + $(cat "$scratch/checks")))
    done_with drain
}

# To try this script; kubelet's patience stays as much longer as it is.
other_deadline() {
    echo $(($(cat "$scratch/grace") - $(cat "$scratch/deadline") + $1)) >"$scratch/grace"
    sed -i "s/^drain: .*/drain: { deadline: ${1}s }/" "$scratch/config/edge.yaml"
    echo "$1" >"$scratch/deadline"
}

inside() {
    use python3 jq curl ip
    rm -rf "$scratch"
    scratch=$1
    trap - EXIT
    cd "$scratch"
    edge=$(cat edge) deadline=$(cat deadline) grace=$(cat grace)
    readarray -t arguments <arguments
    the_node
    holds "certs import" "$edge" certs import --config /etc/openclaw-edge/edge.yaml today
    "$edge" "${arguments[@]}" >pod.out 2>pod.log &
    pod=$!
    until_it_holds "readiness" healthy
    streams_begin
    terminated
    echo "$checks" >checks
}

# The cluster's names, the folders, backends.
the_node() {
    ip link set lo up
    export NODE_IP=127.0.0.1
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/lib
    mkdir -m 0700 /run/openclaw-edge /var/lib/openclaw-edge
    mkdir over
    mount -t tmpfs tmpfs over
    mkdir -p over/upper over/work
    mount -t overlay overlay -o lowerdir=/etc,upperdir=over/upper,workdir=over/work /etc
    printf '127.0.0.1 localhost %s\n' "$(sed -n 's/.*"\([a-z-]*\.platform\.svc\.cluster\.local\):.*/\1/p' config/edge.yaml |
        tr '\n' ' ')" >/etc/hosts
    ln -sfn "$scratch/config" /etc/openclaw-edge
    python3 "$here/machine/traffic.py" backend 3000 >websocket-backend.log 2>&1 &
    python3 "$here/drain/events.py" backend 8080 >events-backend.log 2>&1 &
}

healthy() { "$edge" healthcheck --socket /run/openclaw-edge/admin.sock; }

# until_it_holds WHAT COMMAND...: for 30 seconds.
until_it_holds() {
    local what=$1 end=$((SECONDS + 30))
    shift
    until "$@" >said 2>&1; do
        [ $SECONDS -lt $end ] || { cat said >&2; tail -20 pod.log >&2; fail "waited in vain for $what"; }
        sleep 0.1
    done
    checks=$((checks + 1))
}

# One that ends after two thirds of the deadline, others that never do.
streams_begin() {
    own_end=$((deadline * 2 / 3))
    python3 "$here/machine/traffic.py" websockets today/tls.crt websockets.json 5 >websockets.log 2>&1 &
    python3 "$here/drain/events.py" client today/tls.crt events.json ends=$own_end endless=100000 >events.log 2>&1 &
    until_it_holds "5 WebSockets" sees websockets '.open == 5 and .fewest > 1'
    until_it_holds "event streams" sees events '.ends.events > 2 and .endless.events > 2'
}

# sees NAME CONDITION: now.
sees() { jq --exit-status "$2" "$1.json" >/dev/null || { cat "$1.json"; return 1; }; }

must_see() { holds "$1: $2" sees "$1" "$2"; }

terminated() {
    local begun code=0 took
    kill -TERM "$pod"
    begun=$SECONDS
    until_it_holds "the end of new connections" refuses
    [ "$(jq .ends.ended events.json)" = null ] || fail "the stream has ended before its end: $(cat events.json)"
    until [ "$(jq .ends.ended events.json)" != null ]; do
        [ $((SECONDS - begun)) -lt "$deadline" ] || fail "the stream does not end: $(cat events.json)"
        sleep 0.5
    done
    must_see events ".ends == {events: $own_end, ended: \"complete\"}"
    took=$((SECONDS - begun))
    [ $took -gt $((own_end - 20)) ] || fail "$own_end events within $took s"
    echo "drain: a stream of $own_end events goes on to its own end, $took s after SIGTERM"
    # Shortly before the deadline all others are as they were.
    until [ $((SECONDS - begun)) -ge $((deadline - 5)) ]; do
        kill -0 "$pod" 2>/dev/null || fail "the pod ended after $((SECONDS - begun)) s, with streams open"
        sleep 0.5
    done
    # One a second, but for what a busy machine takes.
    must_see websockets ".ended == 0 and .open == 5 and .fewest > $((deadline * 8 / 10))"
    must_see events ".endless.ended == null and .endless.events > $((deadline * 8 / 10))"
    wait "$pod" || code=$?
    took=$((SECONDS - begun))
    [ $code = 0 ] || { tail -20 pod.log >&2; fail "the pod ended with $code"; }
    [ $took -ge $((deadline - 1)) ] || fail "it ended after $took s, before its deadline"
    [ $took -lt "$grace" ] || fail "it took $took s: kubelet kills it after $grace"
    until_it_holds "the end of the WebSockets" sees websockets '.ended == 5'
    until_it_holds "the end of the endless stream" sees events '.endless.ended != null and .endless.ended != "complete"'
    checks=$((checks + 1))
    echo "drain: 5 WebSockets and a stream without an end lived on for $took s; exit code 0 (kubelet waits $grace s)"
}

refuses() { ! curl --silent --show-error --max-time 2 http://127.0.0.1/ >refused 2>&1 && grep "Couldn't connect" refused; }

if [ "${1:-}" = --inside ]; then inside "$2"; else outside "$@"; fi
