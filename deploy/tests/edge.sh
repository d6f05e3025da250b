# shellcheck shell=bash
# What the scripts share that start the binary.

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# The binary under test, which the caller names.
binary() {
    local given=${OPENCLAW_EDGE_BIN:-${OPENCLAW_EDGE:-}}
    [ -n "$given" ] || fail "OPENCLAW_EDGE_BIN is not set: which openclaw-edge is to be tested?"
    [ -x "$given" ] || fail "$given cannot be executed"
    realpath "$given"
}

# The one that the package has: $OPENCLAW_EDGE_DEB_BIN, else the binary under test.
package_binary() { OPENCLAW_EDGE_BIN=${OPENCLAW_EDGE_DEB_BIN:-${OPENCLAW_EDGE_BIN:-}} binary; }

# Programs; what is missing is a failure, not a reason to skip.
need() {
    local program
    for program; do
        type -P "$program" >/dev/null || fail "'$program' is missing"
    done
}

# own_network ARGUMENT...: the script once more with these, in a network of its own, where loopback is
# all there is: nobody else takes a port, nor answers on one.
own_network() {
    need unshare ip
    if [ "${OWN_NETWORK:-}" = $$ ]; then
        ip link set lo up
        return
    fi
    local user=()
    [ "$(id -u)" -eq 0 ] || user=(--map-root-user)
    # Without a fork: it is the same process.
    OWN_NETWORK=$$ exec unshare "${user[@]}" --net bash "$0" "$@"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "waited in vain for $what"
        sleep 0.2
    done
}
