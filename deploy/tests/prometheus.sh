#!/usr/bin/env bash
# What is in deploy/prometheus and deploy/grafana, proven by Debian's Prometheus on the real binary:
# promtool's checks and unit tests; no alert on healthy edges; every alert provoked for real; every
# expression of rules and dashboard returning data; prometheus-k3s.yml as it is. About two minutes.
#     OPENCLAW_EDGE_BIN=target/release/openclaw-edge deploy/tests/prometheus.sh
#
# The rules under test are the shipped ones but for `for:`, which is shortened to nothing; scrapes and
# evaluations come every second.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" PYTHONDONTWRITEBYTECODE=1
parts=$here/prometheus
shipped=$(realpath "$here/../prometheus")
dashboard=$(realpath "$here/../grafana/openclaw-edge.json")
metrics_md=$(realpath "$here/../../proxy/METRICS.md")
# shellcheck source=edge.sh
source "$here/edge.sh"
# shellcheck disable=SC1091
source "$parts/configs.sh"
source "$parts/stack.sh"
source "$parts/alerts.sh"
source "$parts/provoke.sh"
source "$parts/k3s.sh"

own_network "$@"
edge=$(binary)
need prometheus promtool pebble pebble-challtestsrv python3 curl jq openssl setpriv prlimit
work=$(mktemp -d)
trap 'ended $?' EXIT

main() {
    files_are_right
    begin
    load
    nothing_fires
    the_exposition_is_clean
    series_are_bounded
    the_cluster_is_scraped
    provoke
    every_expression_returns_data
    restarts_and_the_end
    all_were_proven
    echo "prometheus: ok, ${#proven[@]} provocations, $SECONDS s"
}

files_are_right() {
    promtool check config "$shipped/prometheus.yml" "$shipped/prometheus-k3s.yml" >/dev/null
    promtool check rules "$shipped"/rules/*.yml >/dev/null
    promtool test rules "$shipped"/tests/*.yml
    jq -e '.panels | length > 0' "$dashboard" >/dev/null
    local alert
    for alert in $(shipped_alerts); do
        grep -qr "alertname: $alert\b" "$shipped/tests" || fail "$alert has no unit test"
        grep -q "^| \`$alert\`" "$shipped/../README.md" || fail "$alert is not in deploy/README.md"
    done
}

begin() {
    # shellcheck disable=SC2034
    read -r http https other plain small main_admin small_admin one two three closed pebble pebble_admin \
        dns dns_admin prometheus no_dns cluster < <(python3 "$parts/ports.py" 18)
    api=http://127.0.0.1:$prometheus
    echo "nameserver 127.0.0.1:$no_dns" >"$work/resolv.conf"
    # The hash of nobody's password.
    echo "user:{SHA}$(openssl rand -base64 20)" >"$work/htpasswd"
    make_ca
    certificate legacy DNS:legacy.openclaw.example "5 days ago" "95 days"
    local port
    for port in $one $two $three; do backend "$port"; done
    authority
    main_config
    small_config
    prometheus_config
    "$edge" check --config "$work/main.yaml" >"$work/check.log" || fail "$(cat "$work/check.log")"
    main_edge
    small_edge
    prometheus_server
    cluster
}

load() {
    wait_for 60 "an ordered certificate" has_data 'edge_certificate_ready{certificate="ordered"} == 1'
    python3 "$parts/load.py" "$http" "$https" "$work/main/internal/ca.pem" 10
    # Recorded and evaluated once more.
    wait_for 20 "the load in Prometheus" has_data 'job_route:edge_http_requests:rate5m{route="app"} > 0'
}

the_exposition_is_clean() {
    metrics | promtool check metrics || fail "promtool check metrics"
}

# What clients make up names no series. Beside it closed lists go on filling: another upstream of a
# split, another way in which a connection ends.
series_are_bounded() {
    invent 5
    local before after
    before=$(series)
    invent 200
    after=$(series)
    metrics >"$work/exposition"
    ! grep -iFf "$work/invented" "$work/exposition" >&2 || fail "a client has made a series"
    [ "$after" -lt $((before + 20)) ] || fail "$before series, then $after"
    echo "  $before series before 800 inventions of clients, $after after them, none with their words"
}

# invent N: and wait until it is counted.
invent() {
    local before
    before=$(requests)
    python3 "$parts/invent.py" "$plain" "$https" "$1" >"$work/invented"
    wait_for 30 "the count of requests" counted $((before + 3 * $1))
}

counted() { [ "$(requests)" -ge "$1" ]; }

requests() { metrics | awk '/^edge_http_requests_total/ { sum += $NF } END { print sum + 0 }'; }

series() { metrics | grep -vc '^#'; }

metrics() { curl -fsS "http://127.0.0.1:$main_admin/metrics"; }

# Slow things begin first.
provoke() {
    a_change_with_new_troubles
    end pebble
    in_background get "$plain" slow /slow 20
    backends_down
    the_last_endpoint_drained
    at_the_limits
    a_small_edge
    clients_beyond_limits
    slow_answers
    the_authority_gone
    bad_files
    a_certificate_near_its_end
}

every_expression_returns_data() {
    python3 "$parts/expressions.py" "$api" "$work/rules" "$dashboard" "$metrics_md" \
        "$parts/event-only.txt" || fail "expressions"
}

ended() {
    if [ "$1" -ne 0 ]; then
        last_logs main small prometheus pebble
    fi
    end_all
    rm -rf "$work"
    return "$1"
}

main
