# shellcheck shell=bash disable=SC2154
# Starting and ending what the test needs. To be sourced by ../prometheus.sh.
#
# Processes are known by a name: $work/NAME.pid, $work/NAME.log.

# start NAME COMMAND...
start() {
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    echo $! >"$work/$name.pid"
}

pid_of() { cat "$work/$1.pid"; }

runs() { [ -e "$work/$1.pid" ] && kill -0 "$(pid_of "$1")" 2>/dev/null; }

# end NAME [SIGNAL]: and wait until it has.
end() {
    [ -e "$work/$1.pid" ] || return 0
    local pid
    pid=$(pid_of "$1")
    kill "-${2:-TERM}" "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    rm -f "$work/$1.pid"
}

end_all() {
    local file name
    for file in "$work"/*.pid; do
        [ -e "$file" ] || continue
        name=${file##*/}
        end "${name%.pid}" KILL
    done
}

answers() { curl -fsS --max-time 5 -o /dev/null "$1" 2>/dev/null; }

# last_logs NAME...: what they said last, and the targets that Prometheus cannot scrape; for a failure.
last_logs() {
    local name
    for name; do
        [ -s "$work/$name.log" ] || continue
        echo "--- $name.log"
        tail -n 5 "$work/$name.log"
    done
    [ -z "${api:-}" ] || curl -fsS --max-time 5 "$api/api/v1/targets?state=active" |
        jq -c '.data.activeTargets[] | [.scrapeUrl, .health, .lastError, .lastScrape]' || true
}

# === endpoints

backend() {
    start "backend-$1" python3 "$parts/backend.py" "$1"
    wait_for 20 "backend $1" answers "http://127.0.0.1:$1/health"
}

# === certificates

# A CA for Pebble's API and for the file certificate.
make_ca() {
    (
        cd "$work"
        openssl ecparam -name prime256v1 -genkey -noout -out ca.key
        openssl req -x509 -new -key ca.key -days 2 -subj /CN=test-ca -out ca.pem
        touch index.txt
        printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\n' >ca.cnf
        printf 'default_md=sha256\npolicy=p\nunique_subject=no\ncopy_extensions=copy\n[p]\n' >>ca.cnf
        printf 'commonName=supplied\n' >>ca.cnf
    ) 2>"$work/openssl.log" || fail "openssl: $(cat "$work/openssl.log")"
}

# certificate FILE NAME FROM TO: FILE.pem and FILE.key for a DNS name or IP; times as of `date -d`.
certificate() {
    (
        cd "$work"
        openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
        openssl req -new -key "$1.key" -subj "/CN=$1" -addext "subjectAltName=$2" -out "$1.csr"
        openssl ca -batch -notext -config ca.cnf -keyfile ca.key -cert ca.pem -in "$1.csr" -out "$1.new" \
            -startdate "$(date -u -d "$3" +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d "$4" +%Y%m%d%H%M%SZ)"
        mv "$1.new" "$1.pem"
    ) 2>"$work/openssl.log" || fail "openssl: $(cat "$work/openssl.log")"
}

# The entry for a certificate of which a sixth of the time after its renewal is left.
overdue="  overdue: { names: [overdue.openclaw.example], issuer: pebble }"

import_overdue() {
    certificate overdue DNS:overdue.openclaw.example "85 days ago" "5 days"
    cat "$work/overdue.key" >>"$work/overdue.pem"
    "$edge" certs import "$work/overdue.pem" --socket "$work/admin.sock" >"$work/import.log" 2>&1 ||
        fail "import: $(cat "$work/import.log")"
}

# authority [SECONDS]: a real CA, and how long its certificates live. It asks the main edge's plaintext listener.
authority() {
    certificate api IP:127.0.0.1 yesterday "2 days"
    cat >"$work/pebble.json" <<-END
	{ "pebble": {
	  "listenAddress": "127.0.0.1:$pebble", "managementListenAddress": "127.0.0.1:$pebble_admin",
	  "certificate": "$work/api.pem", "privateKey": "$work/api.key",
	  "httpPort": $http, "tlsPort": $https, "ocspResponderURL": "",
	  "domainBlocklist": ["blocked.openclaw.example"], "certificateValidityPeriod": ${1:-7776000} } }
	END
    start dns pebble-challtestsrv -management "127.0.0.1:$dns_admin" -dns01 "127.0.0.1:$dns" \
        -defaultIPv4 127.0.0.1 -defaultIPv6 "" -http01 "" -https01 "" -tlsalpn01 ""
    start pebble env PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 \
        pebble -config "$work/pebble.json" -dnsserver "127.0.0.1:$dns"
    wait_for 20 "Pebble" answers_ca
}

answers_ca() { curl -fsS --cacert "$work/ca.pem" -o /dev/null "https://127.0.0.1:$pebble/dir" 2>/dev/null; }

# === edges and Prometheus

main_edge() {
    start main env OPENCLAW_EDGE_RESOLV_CONF="$work/resolv.conf" "$edge" run --config "$work/main.yaml"
    wait_for 30 "the main edge" answers "http://127.0.0.1:$main_admin/readyz"
}

# 256 descriptors; its stdout is a pipe that somebody holds open and nobody reads. Not root, whom no
# limit of threads holds.
small_edge() {
    chmod 0711 "$work"
    install -d -o 65532 -g 65532 "$work/small"
    [ -x "$work/edge" ] || install "$edge" "$work/edge"
    [ -p "$work/unread" ] || mkfifo "$work/unread"
    exec 9<>"$work/unread"
    (ulimit -n 256 && exec setpriv --reuid 65532 --regid 65532 --clear-groups "$work/edge" run --config "$work/small.yaml" >&9 2>"$work/small.log" 9<&-) &
    echo $! >"$work/small.pid"
    wait_for 30 "the small edge" answers "http://127.0.0.1:$small_admin/readyz"
}

# The thread that is to order a certificate is one too many: that task ends by a panic.
no_more_threads() {
    setpriv --reuid 65532 --regid 65532 --clear-groups prlimit --pid "$(pid_of small)" --nproc=1
    small_config "issuers: { nobody: { directory: \"https://localhost:$closed/dir\" } }
certificates: { thin: { names: [thin.openclaw.example], issuer: nobody } }"
    wait_for 60 "a panic" has_panicked
    answers "http://127.0.0.1:$small_admin/readyz" || fail "the small edge has not outlived a panic"
}

has_panicked() { curl -fsS "http://127.0.0.1:$small_admin/metrics" | grep -q '^edge_request_panics_total [1-9]'; }

prometheus_server() {
    start prometheus prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" \
        --web.listen-address="127.0.0.1:$prometheus" --log.level=warn
    wait_for 30 "Prometheus" answers "$api/-/ready"
}
