# shellcheck shell=bash disable=SC2154
# Troubles that last, and Prometheus as it is shipped. To be sourced by ../alerts.sh.

# === Prometheus

# Only the targets are ours.
unchanged_rules() {
    cp -r "$shipped/rules" "$work/rules"
    diff -r "$shipped/rules" "$work/rules"
    prometheus_file "\"127.0.0.1:$main_admin\", \"127.0.0.1:$small_admin\", \"127.0.0.1:$third_admin\"" \
        >"$work/prometheus.yml"
}

# prometheus_file TARGETS
prometheus_file() {
    grep -q '"127.0.0.1:9901"' "$shipped/prometheus.yml" || fail "prometheus.yml has another target"
    sed "s#\"127.0.0.1:9901\"#$1#" "$shipped/prometheus.yml"
}

# Another one, which will have no edge to scrape.
lonely_prometheus() {
    prometheus_file "\"127.0.0.1:$small_admin\"" >"$work/lonely.yml"
    start lonely prometheus --config.file="$work/lonely.yml" --storage.tsdb.path="$work/tsdb2" \
        --web.listen-address="127.0.0.1:$prometheus2" --log.level=warn
    wait_for 60 "the other Prometheus" answers "$lonely/-/ready"
}

# === a third edge, which comes and goes

third_config() {
    cat >"$work/third.yaml" <<-END
	version: 1
	state_dir: $work/third
	admin: { listen: "127.0.0.1:$third_admin" }
	listeners:
	  third: { bind: ["127.0.0.1:0"] }
	routes:
	  third: { hosts: [third.openclaw.example], respond: { status: 200, body: yes } }
	END
}

third_edge() {
    start third "$edge" run --config "$work/third.yaml"
    wait_for 30 "the third edge" answers "http://127.0.0.1:$third_admin/readyz"
}

third_has_restarted() {
    has_data "changes(process_start_time_seconds{instance=\"127.0.0.1:$third_admin\"}[15m]) >= $1"
}

# === troubles

# provoked HOW, then lines of an alert and its labels.
provoked() {
    echo "$1"
    local alert labels
    while read -r alert labels; do
        printf '%s\t%s\t%s\n' "$alert" "$labels" "$1" >>"$work/expected"
    done
}

make_trouble() {
    no_edge_left
    names_and_limits
    the_log_not_read
    threads_refused
    certificates
    backends
    bad_files
    start troubles python3 "$parts/troubles.py" "$plain" "$https" "$other" "$small"
}

no_edge_left() {
    echo "a Prometheus loses its targets"
    prometheus_file "" >"$work/lonely.yml"
    kill -HUP "$(pid_of lonely)"
    printf 'EdgeAbsent\t\t%s\n' "the scrape config names no target any more" >"$work/expected-lonely"
}

names_and_limits() {
    troubled_config "" ""
    provoked "a name that no DNS server knows" <<-END
	EdgeUpstreamUnresolved upstream=gone
	EdgeNoHealthyEndpoints upstream=gone
	END
    provoked "of two endpoints one refuses connections" <<-END
	EdgeEndpointDown upstream=flaky,state=ejected
	END
    provoked "first bytes after 11 s" <<-END
	EdgeLatencyP99 route=slow
	END
    provoked "a second request where one is allowed" <<-END
	EdgeOverCapacity route=narrow
	END
    provoked "two requests a second where one is allowed" <<-END
	EdgeRateLimited route=limited
	END
    provoked "a new key with each request, 60 a minute from one address" <<-END
	EdgeRateLimitOverflow route=keyed,limit=token
	END
    provoked "guessed passwords, 120 a minute" <<-END
	EdgeAuthRefusals route=locked,result=limited
	END
    provoked "plain HTTP on a port for TLS" <<-END
	EdgeTlsHandshakeFailures listener=other
	END
}

the_log_not_read() {
    local told="instance=127.0.0.1:$small_admin"
    provoked "nobody reads the access log of an edge" <<<"EdgeLogDropped $told"
    wait_for 60 "dropped lines" drops_lines
    start held python3 "$parts/sockets.py" keep "$small" 180 small.openclaw.example
    provoked "180 connections that are kept, 180 and 256 descriptors allowed; further ones come" <<-END
	EdgeConnectionsNearLimit $told,listener=narrow
	EdgeFdsNearLimit $told
	EdgeConnectionsRejected $told,listener=narrow,reason=connections
	END
}

threads_refused() {
    no_more_threads
    provoked "an edge may have no more threads" <<<"EdgeRequestPanicked instance=127.0.0.1:$small_admin"
}

drops_lines() {
    python3 "$parts/sockets.py" get "$small" small.openclaw.example /x 100
    [ "$(metric "$small_admin" edge_log_dropped_total)" -gt 0 ]
}

# A refusal first, while there is a CA to refuse; then it is gone, and a certificate that was imported
# near its end cannot be renewed.
certificates() {
    provoked "the CA refuses a name" <<-END
	EdgeAcmeFailing issuer=pebble,result=refused
	EdgeCertificateNotReady certificate=refused
	END
    wait_for 60 "the refusal" refused_once
    end pebble
    import_overdue
    troubled_config "" "$overdue"
    provoked "a renewal long due, and the CA is gone" <<<"EdgeCertificateRenewalOverdue certificate=overdue"
    certificate legacy DNS:legacy.openclaw.example "95 days ago" "5 days"
    provoked "a certificate file with a twentieth of its life left" <<<"EdgeCertificateExpiresSoon certificate=legacy"
}

refused_once() {
    curl -fsS "http://127.0.0.1:$main_admin/metrics" |
        grep '^edge_acme_orders_total{issuer="pebble",result="refused"} [1-9]' >"$work/refused"
}

backends() {
    end "backend-$two" KILL
    provoked "one of two backends killed" <<<"EdgeEndpointDown upstream=web,state=unhealthy"
    end "backend-$three" KILL
    provoked "the only backend killed, 30 clients at a time" <<-END
	EdgeNoHealthyEndpoints upstream=api
	EdgeUpstreamQueued upstream=api
	EdgeUpstreamConnectErrors upstream=api
	Edge5xxBurnRate route=api,window=1h
	Edge5xxBurnRate route=api,window=6h
	END
    "$edge" drain canary "127.0.0.1:$one" --force --socket "$work/admin.sock" >"$work/drain.log" ||
        fail "drain: $(cat "$work/drain.log")"
    provoked "the last endpoint drained" <<<"EdgeNoHealthyEndpoints upstream=canary"
}

# An entry that is refused, then a whole file: what was refused before stays so.
bad_files() {
    troubled_config "  wrong: { hosts: [wrong.openclaw.example], upstrem: web }" \
        "$overdue"
    wait_for 30 "the quarantine" is_metric "$main_admin" 'edge_config_objects{kind="route",state="quarantined"}' 1
    provoked "a route with a misspelt key" <<<"EdgeConfigQuarantined kind=route,state=quarantined"
    echo "no_such_key: 1" >>"$work/main.yaml"
    wait_for 30 "the refusal" is_metric "$main_admin" edge_config_last_reload_successful 0
    provoked "a reload of a file with an unknown key" <<<"EdgeConfigRejected instance=127.0.0.1:$main_admin"
}

# Starts are told apart by scrapes.
wait_for_restarts() {
    provoked "killed and started again, four times, then not again" <<-END
	EdgeRestarting instance=127.0.0.1:$third_admin
	EdgeDown instance=127.0.0.1:$third_admin
	END
    local number
    # One that Prometheus has never seen does not change.
    wait_for 60 "the third edge in Prometheus" has_data "up{instance=\"127.0.0.1:$third_admin\"} == 1"
    for number in 1 2 3 4; do
        end third KILL
        third_edge
        wait_for 90 "start $number in Prometheus" third_has_restarted "$number"
    done
    wait_for 60 "EdgeRestarting" fires EdgeRestarting "instance=\"127.0.0.1:$third_admin\""
    end third KILL
}

# troubled_config ROUTES CERTIFICATES: what is wrong from the beginning, and these.
troubled_config() {
    main_config "  gone: { endpoints: [\"gone.openclaw.example:80\"] }
  flaky: { endpoints: [\"127.0.0.1:$one\", \"127.0.0.1:$closed\"] }" \
        "  gone: { hosts: [gone.openclaw.example], upstream: gone }
  flaky: { hosts: [flaky.openclaw.example], upstream: flaky }
${1:-}" \
        "  refused: { names: [blocked.openclaw.example], issuer: pebble }
${2:-}"
}

# metric ADMIN_PORT SERIES: its value, of an edge itself.
metric() { curl -fsS "http://127.0.0.1:$1/metrics" | awk -v series="$2" '$1 == series { print $2 }'; }

is_metric() { [ "$(metric "$1" "$2")" = "$3" ]; }
