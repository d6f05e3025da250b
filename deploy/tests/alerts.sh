#!/usr/bin/env bash
# The shipped alerts, byte for byte, in Debian's Prometheus with the shipped intervals: a minute of an
# ordinary day in which nothing may fire, then each trouble made for real and kept up under a light
# load until its alert fires. prometheus.sh does the same without the `for:`.
#     OPENCLAW_EDGE_BIN=target/release/openclaw-edge deploy/tests/alerts.sh [LONGEST]
#
# LONGEST: alerts with a longer `for` (seconds, default 900: none) need only become pending: .ci/run
# has 120. About 4 minutes and LONGEST.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" PYTHONDONTWRITEBYTECODE=1
parts=$here/prometheus
shipped=$(realpath "$here/../prometheus")
longest=${1:-900}
# shellcheck source=edge.sh
source "$here/edge.sh"
# shellcheck disable=SC1091
source "$parts/configs.sh"
source "$parts/stack.sh"
source "$parts/alerts.sh"
source "$parts/unchanged.sh"

own_network "$@"
edge=$(binary)
need prometheus promtool pebble pebble-challtestsrv python3 curl jq openssl setpriv prlimit
work=$(mktemp -d)
trap 'ended $?' EXIT

main() {
    begin
    echo "a minute of an ordinary day"
    python3 "$parts/load.py" "$http" "$https" "$work/main/internal/ca.pem" 60
    nothing_fires
    make_trouble
    wait_for_restarts
    each_is_listed
    python3 "$parts/firing.py" "$api" "$work/expected" "$longest"
    python3 "$parts/firing.py" "$lonely" "$work/expected-lonely" "$longest"
    echo "alerts: ok, $SECONDS s"
}

begin() {
    # shellcheck disable=SC2034
    read -r http https other plain small main_admin small_admin third_admin one two three closed pebble \
        pebble_admin dns dns_admin prometheus prometheus2 no_dns < <(python3 "$parts/ports.py" 19)
    api=http://127.0.0.1:$prometheus
    lonely=http://127.0.0.1:$prometheus2
    : >"$work/expected"
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
    third_config
    main_edge
    small_edge
    third_edge
    unchanged_rules
    prometheus_server
    lonely_prometheus
    wait_for 60 "an ordered certificate" has_data 'edge_certificate_ready{certificate="ordered"} == 1'
}

# What is shipped is provoked.
each_is_listed() {
    local alert
    while read -r alert; do
        cut -f 1 "$work/expected" "$work/expected-lonely" | grep -qx "$alert" ||
            fail "$alert is not provoked"
    done < <(shipped_alerts)
}

ended() {
    if [ "$1" -ne 0 ]; then
        last_logs main small third prometheus lonely pebble troubles
    fi
    end_all
    rm -rf "$work"
    return "$1"
}

main
