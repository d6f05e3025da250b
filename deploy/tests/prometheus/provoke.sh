# shellcheck shell=bash disable=SC2154
# What goes wrong, and which alerts must fire then. To be sourced by ../prometheus.sh.

# A name without an address, an endpoint that refuses beside one that does not, a name that the CA
# does not sign.
a_change_with_new_troubles() {
    echo "a name that does not resolve, a closed port, a name that the CA refuses"
    main_config "  gone: { endpoints: [\"gone.openclaw.example:80\"] }
  flaky: { endpoints: [\"127.0.0.1:$one\", \"127.0.0.1:$closed\"] }" \
        "  gone: { hosts: [gone.openclaw.example], upstream: gone }
  flaky: { hosts: [flaky.openclaw.example], upstream: flaky }" \
        "  refused: { names: [blocked.openclaw.example], issuer: pebble }"
    must_fire 90 EdgeUpstreamUnresolved 'upstream="gone"'
    must_fire 90 EdgeNoHealthyEndpoints 'upstream="gone"'
    must_fire 90 EdgeEndpointDown 'upstream="flaky", state="ejected"' get "$plain" flaky /x 10
    must_fire 120 EdgeAcmeFailing 'issuer="pebble"'
    must_fire 90 EdgeCertificateNotReady 'certificate="refused"'
}

backends_down() {
    echo "one of two endpoints down, then the only one"
    end "backend-$two" KILL
    must_fire 90 EdgeEndpointDown 'upstream="web", state="unhealthy"'
    end "backend-$three" KILL
    must_fire 90 EdgeNoHealthyEndpoints 'upstream="api"'
    must_fire 90 EdgeUpstreamQueued 'upstream="api"' in_background get "$plain" api /x 25
    must_fire 120 Edge5xxBurnRate 'route="api", window="1h"' get "$plain" api /x 25
    must_fire 90 Edge5xxBurnRate 'route="api", window="6h"' get "$plain" api /x 25
    must_fire 90 EdgeUpstreamConnectErrors 'upstream="api"' get "$plain" api /x 25
}

the_last_endpoint_drained() {
    echo "the last endpoint drained"
    "$edge" drain canary "127.0.0.1:$one" --force --socket "$work/admin.sock" >"$work/drain.log" ||
        fail "drain: $(cat "$work/drain.log")"
    must_fire 90 EdgeNoHealthyEndpoints 'upstream="canary"'
}

bad_files() {
    echo "a route that is misspelt, then a file that is none"
    main_config "" "  wrong: { hosts: [wrong.openclaw.example], upstrem: web }"
    must_fire 90 EdgeConfigQuarantined 'kind="route", state="quarantined"'
    main_config
    wait_for 90 "the good file" has_data 'edge_config_objects{kind="route", state="quarantined"} == 0'
    echo "no_such_key: 1" >>"$work/main.yaml"
    must_fire 90 EdgeConfigRejected ''
}

a_certificate_near_its_end() {
    echo "a certificate file with a twentieth of its life left"
    certificate legacy DNS:legacy.openclaw.example "95 days ago" "5 days"
    must_fire 90 EdgeCertificateExpiresSoon 'certificate="legacy"'
}

# It was issued long ago, and nobody is there to renew it.
the_authority_gone() {
    echo "an imported certificate near its end, and the CA has gone"
    import_overdue
    main_config "" "" "$overdue"
    must_fire 120 EdgeCertificateRenewalOverdue 'certificate="overdue"'
}

slow_answers() {
    echo "first bytes after 11 s"
    must_fire 120 EdgeLatencyP99 'route="slow"' get "$plain" slow /slow 20
}

at_the_limits() {
    echo "a full upstream, other bytes than TLS"
    must_fire 120 EdgeOverCapacity 'route="narrow"' in_background get "$plain" narrow /slow 40
    must_fire 120 EdgeTlsHandshakeFailures 'listener="other"' python3 "$parts/sockets.py" garbage "$other" 30
}

a_small_edge() {
    echo "a small edge: connections, descriptors, its log"
    start held python3 "$parts/sockets.py" hold "$small" 180
    must_fire 90 EdgeConnectionsNearLimit 'listener="narrow"'
    must_fire 90 EdgeFdsNearLimit ''
    must_fire 120 EdgeConnectionsRejected 'reason="connections"' python3 "$parts/sockets.py" garbage "$small" 40
    end held
    must_fire 120 EdgeLogDropped '' get "$small" small /x 100
    echo "a small edge that may have no more threads"
    no_more_threads
    must_fire 90 EdgeRequestPanicked "instance=\"127.0.0.1:$small_admin\""
}

clients_beyond_limits() {
    echo "more requests than a limit lets through, invented keys, guessed passwords"
    must_fire 120 EdgeRateLimited 'route="limited"' get "$plain" limited /x 20
    must_fire 120 EdgeRateLimitOverflow 'route="keyed", limit="token"' python3 "$parts/sockets.py" keys "$plain" 1500
    must_fire 120 EdgeAuthRefusals 'route="locked", result="limited"' python3 "$parts/sockets.py" guess "$plain" 100
}

restarts_and_the_end() {
    echo "restarts, then nobody there, then no target"
    must_fire 120 EdgeRestarting '' restart_small
    end small KILL
    must_fire 90 EdgeDown "instance=\"127.0.0.1:$small_admin\""
    sed -i 's/- targets: .*/- targets: []/' "$work/prometheus.yml"
    kill -HUP "$(pid_of prometheus)"
    must_fire 120 EdgeAbsent ''
}

# Starts are told apart by the second, and by a scrape each.
restart_small() {
    end small KILL
    small_edge
    sleep 2
}

get() { python3 "$parts/sockets.py" get "$1" "$2.openclaw.example" "$3" "$4"; }

# Its requests end by themselves; what still runs at the end is ended by name.
in_background() {
    background=$((${background:-0} + 1))
    start "background-$background" "$@"
}
