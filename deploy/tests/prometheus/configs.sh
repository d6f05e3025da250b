# shellcheck shell=bash disable=SC2154
# The configurations of the two edges. To be sourced by ../prometheus.sh.

# main_config [upstreams] [routes] [certificates]: the file of the main edge with further entries.
# It is put in place whole, as an operator's tool would.
main_config() {
    cat >"$work/new.yaml" <<-END
	version: 1
	state_dir: $work/main
	admin: { listen: "127.0.0.1:$main_admin", socket: $work/admin.sock }
	listeners:
	  http: { bind: ["127.0.0.1:$http"], redirect_to: https }
	  https: { bind: ["127.0.0.1:$https"], tls: {} }
	  other: { bind: ["127.0.0.1:$other"], tls: {} }
	  plain: { bind: ["127.0.0.1:$plain"] }
	issuers:
	  local: { internal: {} }
	  pebble:
	    directory: https://127.0.0.1:$pebble/dir
	    roots: $work/ca.pem
	    staging: "off"
	    limits: { certificates_per_hour: 1000, certificates_per_week: 1000 }
	default_issuer: local
	certificates:
	  ordered: { names: [ordered.openclaw.example], issuer: pebble }
	  legacy: { chain: $work/legacy.pem, key: $work/legacy.key }
	${3:-}
	limits: { limiter_keys: 1000 }
	upstreams:
	  web: { endpoints: ["127.0.0.1:$one", "127.0.0.1:$two"], $(health) }
	  canary: { endpoints: ["127.0.0.1:$one"], $(health) }
	  api: { endpoints: ["127.0.0.1:$three"], queue: { timeout: 4s }, $(health) }
	  narrow: { endpoints: ["127.0.0.1:$one"], limits: { requests: 1 }, queue: { size: 0 } }
	${1:-}
	routes:
	  app: { hosts: [app.openclaw.example], split: { web: 90, canary: 10 } }
	  api: { hosts: [api.openclaw.example], upstream: api }
	  narrow: { hosts: [narrow.openclaw.example], upstream: narrow }
	  slow: { hosts: [slow.openclaw.example], upstream: web }
	  ordered: { hosts: [ordered.openclaw.example, legacy.openclaw.example], upstream: web }
	  limited:
	    hosts: [limited.openclaw.example]
	    respond: { status: 200, body: yes }
	    rate_limits:
	      - { key: client_ip, rate: 1/s, burst: 1, concurrent: 100 }
	  keyed:
	    hosts: [keyed.openclaw.example]
	    respond: { status: 200, body: yes }
	    rate_limits:
	      - { name: token, key: "header:x-token", rate: 1/h, burst: 1 }
	  locked:
	    hosts: [locked.openclaw.example]
	    respond: { status: 200, body: yes }
	    access: { basic_auth: "\${file:$work/htpasswd}" }
	${2:-}
	END
    mv "$work/new.yaml" "$work/main.yaml"
}

health() { echo 'health: { path: /health, interval: 1s, fall: 1 }'; }

# One listener, few descriptors, a log that nobody reads.
# small_config [MORE]
small_config() {
    cat >"$work/small.new" <<-END
	version: 1
	state_dir: $work/small
	admin: { listen: "127.0.0.1:$small_admin" }
	log: { queue_bytes: 64KiB }
	listeners:
	  narrow: { bind: ["127.0.0.1:$small"], limits: { connections: 180 } }
	routes:
	  small: { hosts: [small.openclaw.example], respond: { status: 200, body: yes } }
	${1:-}
	END
    mv "$work/small.new" "$work/small.yaml"
}

prometheus_config() {
    sed -e "s#\"127.0.0.1:9901\"#\"127.0.0.1:$main_admin\", \"127.0.0.1:$small_admin\"#" \
        -e 's#_interval: 15s#_interval: 1s#' "$shipped/prometheus.yml" >"$work/prometheus.yml"
    # The only change to the rules: an alert fires with its first evaluation.
    mkdir "$work/rules"
    local file
    for file in "$shipped"/rules/*.yml; do
        sed 's/^\( *for:\) .*/\1 0s/' "$file" >"$work/rules/${file##*/}"
    done
    promtool check config "$work/prometheus.yml" >/dev/null || fail "the shortened rules"
    ! grep -h 'for:' "$work"/rules/*.yml | grep -v 'for: 0s$' || fail "an alert still waits"
}
