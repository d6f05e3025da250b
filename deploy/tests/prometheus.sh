#!/usr/bin/env bash
# What is in deploy/prometheus and deploy/grafana, proven by Debian's Prometheus on the real binary:
# promtool's checks and unit tests; no alert on healthy edges; every alert provoked for real; every
# expression of rules and dashboard returning data. About two minutes.
#     OPENCLAW_EDGE_BIN=target/release/openclaw-edge deploy/tests/prometheus.sh
#
# The rules under test are the shipped ones but for `for:`, which is shortened to nothing; scrapes and
# evaluations come every second.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
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

edge=$(binary)
need prometheus promtool pebble pebble-challtestsrv python3 curl jq openssl
work=$(mktemp -d)
trap 'ended $?' EXIT
# Seconds that a certificate of the CA lives: overdue after two thirds of them.
LIFE=100

main() {
    files_are_right
    begin
    load
    nothing_fires
    the_exposition_is_clean
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
        dns dns_admin prometheus no_dns < <(python3 "$parts/ports.py" 17)
    api=http://127.0.0.1:$prometheus
    echo "nameserver 127.0.0.1:$no_dns" >"$work/resolv.conf"
    # The hash of nobody's password.
    echo "user:{SHA}$(openssl rand -base64 20)" >"$work/htpasswd"
    make_ca
    certificate legacy DNS:legacy.openclaw.example "5 days ago" "95 days"
    local port
    for port in $one $two $three; do backend "$port"; done
    authority $LIFE
    main_config
    small_config
    prometheus_config
    "$edge" check --config "$work/main.yaml" >"$work/check.log" || fail "$(cat "$work/check.log")"
    main_edge
    small_edge
    prometheus_server
}

load() {
    wait_for 60 "an ordered certificate" has_data 'edge_certificate_ready{certificate="ordered"} == 1'
    python3 "$parts/load.py" "$http" "$https" "$work/main/internal/ca.pem" 10
    # Recorded and evaluated once more.
    wait_for 20 "the load in Prometheus" has_data 'job_route:edge_http_requests:rate5m{route="app"} > 0'
}

the_exposition_is_clean() {
    curl -fsS "http://127.0.0.1:$main_admin/metrics" | promtool check metrics || fail "promtool check metrics"
}

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
    bad_files
    a_certificate_near_its_end
    the_authority_gone
}

every_expression_returns_data() {
    python3 "$parts/expressions.py" "$api" "$work/rules" "$dashboard" "$metrics_md" \
        "$parts/event-only.txt" || fail "expressions"
}

ended() {
    if [ "$1" -ne 0 ]; then
        tail -n 5 "$work"/{main,small,prometheus,pebble}.log 2>/dev/null || true
    fi
    end_all
    rm -rf "$work"
    return "$1"
}

main
