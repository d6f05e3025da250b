#!/usr/bin/env bash
# 20 overlapping replacements of the DaemonSet's pod, played by processes in a network of their own: the
# overlay's own edge.yaml, command line and environment, uid 65532 with one capability, a state
# directory that both have and a socket that each has alone, under new connections, h2 and WebSockets
# (`soak rollout`). Each time the next process starts beside the one that serves, is ready by its own
# health check, and only then the first gets its SIGTERM. Nothing may be refused, reset or fail; the
# same load must notice processes that are killed instead. Takes root; a minute.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$here/pod.sh"
replacements=${REPLACEMENTS:-20}
host=app.openclaw.example
node=192.0.2.10

outside() {
    [ "$(id -u)" = 0 ] || fail "takes root: makes a network of its own"
    use kubectl python3 unshare nsenter setpriv setcap openssl ip
    local edge load
    edge=$(edge_binary)
    load=$(load_binary)
    # Where the image has it.
    install -D "$edge" "$scratch/usr/bin/openclaw-edge"
    setcap cap_net_bind_service=+ep "$scratch/usr/bin/openclaw-edge"
    cp "$load" "$scratch/soak"
    from_the_overlay
    certificate_of_today
    chmod 0755 "$scratch"
    # All that is started ends with the first process in there.
    unshare --mount --net --pid --fork --kill-child --mount-proc bash "$0" --inside "$scratch"
    checks=$((checks + $(cat "$scratch/checks")))
    done_with replace
}

inside() {
    use ip setpriv nsenter curl
    rm -rf "$scratch"
    scratch=$1
    trap - EXIT
    cd "$scratch"
    readarray -t command <command
    readarray -t probe <probe
    the_node
    holds "certs import" as_edge /usr/bin/openclaw-edge certs import --config /etc/openclaw-edge/edge.yaml "$scratch/today"
    start_pod
    under_load replaced "$replacements" TERM
    under_load killed 3 KILL --control
    kill -TERM "$pod"
    echo "$checks" >checks
}

# Its address, its setting, its folders, the names of the cluster.
the_node() {
    ip link set lo up
    ip address add "$node/32" dev lo
    # As the README says.
    echo 1 >/proc/sys/net/ipv4/tcp_migrate_req
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/lib
    mkdir /run/openclaw-edge
    install -d -o 65532 -g 65532 -m 0700 /var/lib/openclaw-edge
    mkdir over
    mount -t tmpfs tmpfs over
    over /etc
    over /usr/bin
    printf '127.0.0.1 localhost %s\n' "$(sed -n 's/.*"\([a-z-]*\.platform\.svc\.cluster\.local\):.*/\1/p' config/edge.yaml |
        tr '\n' ' ')" >/etc/hosts
    rm -f /etc/resolv.conf
    echo "nameserver $node" >/etc/resolv.conf
    ln -s "$scratch/config" /etc/openclaw-edge
    touch /usr/bin/openclaw-edge
    mount --bind usr/bin/openclaw-edge /usr/bin/openclaw-edge
}

# What is written there from now on stays in here.
over() {
    mkdir -p "over$1/upper" "over$1/work"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$scratch/over$1/upper,workdir=$scratch/over$1/work" "$1"
}

as_edge() {
    NODE_IP=$node setpriv --reuid 65532 --regid 65532 --clear-groups --bounding-set=-all,+net_bind_service -- "$@"
}

# The next one, beside who serves; $pod is its process. The directory of its socket is its own.
start_pod() {
    NODE_IP=$node unshare --mount bash -ec '
        mount -t tmpfs -o mode=0700,uid=65532,gid=65532 tmpfs /run/openclaw-edge
        exec setpriv --reuid 65532 --regid 65532 --clear-groups --bounding-set=-all,+net_bind_service -- "$@"
    ' - "${command[@]}" >>pod.out 2>>pod.log &
    pod=$!
    local left=400
    until nsenter --mount --target "$pod" -- "${probe[@]}" >said 2>&1; do
        [ $((left -= 1)) -gt 0 ] && kill -0 "$pod" || { cat said >&2; tail -20 pod.log >&2; fail "a pod is not ready"; }
        sleep 0.05
    done
}

# under_load NAME TIMES SIGNAL SOAK_OPTION...: the pod replaced so many times, the former one ended
# by the signal, and what the clients say.
under_load() {
    local name=$1 times=$2 signal=$3 load number begun=$SECONDS longest=0
    shift 3
    ./soak rollout --backend 3000 --trusted today/tls.crt --begun "begun-$name" --until "until-$name" --out . --name "$name" \
        "$@" >"$name.out" 2>&1 &
    load=$!
    until [ -e "begun-$name" ]; do
        kill -0 $load || { cat "$name.out" >&2; fail "no load"; }
        sleep 0.05
    done
    for ((number = 1; number <= times; number++)); do
        replace "$signal"
    done
    # Those that came last are answered too.
    sleep 0.3
    touch "until-$name"
    wait $load || { cat "$name.out" >&2; tail -20 pod.log >&2; fail "the clients lost something ($name)"; }
    cat "$name.out"
    checks=$((checks + times))
    # Where none took a second no WebSocket was waited for.
    [ "$signal" = KILL ] || [ $longest -gt 0 ] || fail "no drain had to wait"
    echo "$name: $times times in $((SECONDS - begun)) s, the longest exchange in $longest s"
}

# Its WebSockets live up to 3 s, its deadline is 330 s: who lingers has lost count of them.
replace() {
    local former=$pod code=0 begun=$SECONDS
    start_pod
    kill "-$1" "$former"
    wait "$former" 2>/dev/null || code=$?
    [ "$1" = KILL ] || [ $code = 0 ] || { tail -20 pod.log >&2; fail "the former pod ended with $code"; }
    begun=$((SECONDS - begun))
    [ $begun -lt 20 ] || fail "the former pod took $begun s to drain"
    [ $begun -le "$longest" ] || longest=$begun
}

if [ "${1:-}" = --inside ]; then inside "$2"; else outside; fi
