#!/usr/bin/env bash
# The operations guide (deploy/README.md), typed: daily commands, rotation of every kind of secret,
# tenants that come and go, a move to a new node and what is left of the old one. With a real CA
# (Pebble). About half a minute; secrets of systemd are in systemd_live.sh.
#     OPENCLAW_EDGE_BIN=target/release/openclaw-edge deploy/tests/operations.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
parts=$here/prometheus
# shellcheck source=edge.sh
source "$here/edge.sh"
# shellcheck source=prometheus/stack.sh
source "$parts/stack.sh"
# shellcheck disable=SC1091
source "$here/operations/secrets.sh"
source "$here/operations/tenants.sh"

own_network "$@"
edge=$(binary)
need pebble pebble-challtestsrv python3 curl jq openssl htpasswd
work=$(mktemp -d)
trap 'ended $?' EXIT

APP=app.openclaw.example

main() {
    begin
    daily
    passwords
    a_mounted_secret
    an_environment
    tenants
    certificates_from_files
    keys_of_certificates
    the_account
    the_internal_ca
    a_move
    echo "operations: ok, $SECONDS s"
}

# === the old node

begin() {
    # shellcheck disable=SC2034
    read -r http https pebble pebble_admin dns dns_admin new_http new_https one two three < <(python3 "$parts/ports.py" 11)
    echo "nameserver 127.0.0.1:$dns" >"$work/resolv.conf"
    export OPENCLAW_EDGE_RESOLV_CONF=$work/resolv.conf
    make_ca
    certificate legacy DNS:legacy.openclaw.example "1 day ago" "95 days"
    authority 86400
    htpasswd -nbB -C 5 ops old >"$work/htpasswd"
    kubelet_writes mounted-first
    export EDGE_TOKEN=token-first
    backend "$one"
    backend "$two"
    backend "$three"
    registry acme-corp "$one"
    config old "$http" "$https"
    node old
    wait_for 30 "a certificate" valid old "$APP"
}

# config NODE HTTP HTTPS
config() {
    cat >"$work/$1.yaml" <<-END
	version: 1
	state_dir: $work/$1
	admin: { listen: "off", socket: $work/$1.sock }
	listeners:
	  http: { bind: ["127.0.0.1:$2"] }
	  https: { bind: ["127.0.0.1:$3"], tls: {} }
	issuers:
	  acme: { directory: "https://127.0.0.1:$pebble/dir", roots: $work/ca.pem, limits: { certificates_per_hour: 100 } }
	  local: { internal: {} }
	default_issuer: acme
	certificates:
	  legacy: { chain: $work/legacy.pem, key: $work/legacy.key }
	  inner: { names: [inner.openclaw.example], issuer: local }
	routes:
	  app: { hosts: [$APP], respond: { status: 200, body: "ok" }, access: { basic_auth: "\${file:$work/htpasswd}" } }
	  mounted: { hosts: [$APP], path: /mounted, respond: { status: 200 }, access: { basic_auth: "\${file:$work/secret/users}" } }
	  environment: { hosts: [$APP], path: /env, respond: { status: 200 }, headers: { response: { set: { x-token: "\${env:EDGE_TOKEN}" } } } }
	  legacy: { hosts: [legacy.openclaw.example, inner.openclaw.example], respond: { status: 200 } }
	tenants:
	  file: $work/production.json
	  routes:
	    gateway: { hosts: ["{tenant}.gw.openclaw.example"], endpoint: "{host}:{gateway_port}" }
	END
}

node() {
    start "$1" "$edge" run --config "$work/$1.yaml"
    wait_for 30 "node $1" says "$1" healthcheck
}

# says NODE COMMAND...: what is said goes to $work/said.
says() {
    local node=$1
    shift
    "$edge" "$@" --config "$work/$node.yaml" >"$work/said" 2>&1
}

# must NODE COMMAND...: and exit code 0.
must() { says "$@" || fail "openclaw-edge ${*:2}: $(cat "$work/said")"; }

row() { "$edge" certs show "$2" -o json --config "$work/$1.yaml"; }

valid() { [ "$(row "$1" "$2" | jq -r '.state // .certificate.state')" = valid ]; }

# The certificate that a client is shown: shown PORT HOST.
shown() {
    openssl s_client -connect "127.0.0.1:$1" -servername "$2" </dev/null 2>/dev/null | openssl x509
}

serial() { shown "$@" | openssl x509 -noout -serial; }

public_key() { shown "$@" | openssl x509 -noout -pubkey; }

differs() { [ -n "$("$2" "$3" "$4")" ] && [ "$("$2" "$3" "$4")" != "$1" ]; }

serves() { [ -n "$(serial "$1" "$2")" ]; }

proven() { echo "  $*"; }

later_than() { [ "$(date +%s)" -gt "$1" ]; }

# === the steps

daily() {
    must old check
    must old doctor
    grep -q " 0 errors" "$work/said" || fail "doctor: $(cat "$work/said")"
    grep -q "^ok *dns .*$APP" "$work/said" || fail "doctor says nothing of DNS: $(cat "$work/said")"
    grep -q "^ok *clock *agrees with acme" "$work/said" || fail "no clock: $(cat "$work/said")"
    must old certs list
    must old upstreams
    must old healthcheck
    must old acme check --dns "127.0.0.1:$dns" --http-port "$http" --https-port "$https" "$APP"
    must old backup --out "$work/backups/" --keep 1
    # Names have seconds in them.
    wait_for 5 "another second" later_than "$(date +%s)"
    must old backup --out "$work/backups/" --keep 1
    [ "$(find "$work/backups" -name '*.tar' -perm 600 | wc -l)" = 1 ] || fail "--keep 1: $(ls -l "$work/backups")"
    proven "the daily commands say that all is well"
}

certificates_from_files() {
    local host=legacy.openclaw.example before
    before=$(serial "$https" $host)
    certificate next DNS:$host "1 day ago" "99 days"
    # The pair is half here, half there: the former one serves.
    mv "$work/next.pem" "$work/legacy.pem"
    wait_for 30 "the pair that does not match" failed_files
    [ "$(serial "$https" $host)" = "$before" ] || fail "a pair that does not match is served"
    mv "$work/next.key" "$work/legacy.key"
    wait_for 30 "the new pair" differs "$before" serial "$https" $host
    proven "a certificate from files changes; a pair that does not match leaves the former one"
}

failed_files() { config_state | jq -e '.certificate_problems | length > 0' >/dev/null; }

keys_of_certificates() {
    local key serial
    key=$(public_key "$https" $APP)
    must old certs renew $APP
    wait_for 30 "another key after the renewal" differs "$key" public_key "$https" $APP
    serial=$(serial "$https" $APP)
    must old certs revoke $APP --reason keyCompromise
    wait_for 20 "another certificate after the revocation" differs "$serial" serial "$https" $APP
    wait_for 20 "it to be valid" valid old $APP
    proven "renew makes a new key; revoke orders another certificate"
}

the_account() {
    local before serial
    before=$(cat "$work"/old/acme/accounts/*.json)
    serial=$(serial "$https" $APP)
    end old
    mv "$work/old/acme/accounts" "$work/accounts.old"
    node old
    wait_for 30 "an answer without the account" serves "$https" $APP
    [ "$(serial "$https" $APP)" = "$serial" ] || fail "another certificate after the account was taken away"
    must old certs renew $APP
    [ "$(cat "$work"/old/acme/accounts/*.json)" != "$before" ] || fail "the same account"
    wait_for 30 "a renewal with the new account" differs "$serial" serial "$https" $APP
    proven "a new account takes over the certificates"
}

the_internal_ca() {
    local before
    before=$(cat "$work/old/internal/ca.pem")
    end old
    mv "$work/old/internal" "$work/internal.old"
    node old
    [ "$(cat "$work/old/internal/ca.pem")" != "$before" ] || fail "the same CA"
    wait_for 30 "a certificate of the new internal CA" of_the_internal_ca
    proven "a new internal CA serves"
}

of_the_internal_ca() {
    shown "$https" inner.openclaw.example | openssl verify -CAfile "$work/old/internal/ca.pem" >"$work/said" 2>&1
}

a_move() {
    local serial file=$work/edge.tar url
    serial=$(serial "$https" $APP)
    must old backup --out "$file"
    config new "$new_http" "$new_https"
    must new restore "$file"
    must new doctor --offline
    node new
    must new certs list
    must new healthcheck
    url="https://$APP:$new_https/"
    # Our own CA stands for a public one, hence --insecure; 401 is the route's own answer.
    must new healthcheck --insecure --expect 401 --resolve "$APP:127.0.0.1" "$url"
    [ "$(serial "$new_https" $APP)" = "$serial" ] || fail "the new node serves another certificate"
    valid new $APP || fail "the new node's certificate: $(row new $APP)"
    [ "$(serial "$https" $APP)" = "$serial" ] || fail "the old node has lost its certificate"
    # The first node's ports are not the second one's.
    end old
    must new doctor
    must new healthcheck
    # And back.
    end new
    node old
    [ "$(serial "$https" $APP)" = "$serial" ] || fail "the way back"
    proven "a node moves by backup and restore, orders nothing, and the old one stays as it was"
}

ended() {
    if [ "$1" -ne 0 ]; then
        tail -n 5 "$work"/{old,new,pebble}.log 2>/dev/null || true
    fi
    end_all
    rm -rf "$work"
    return "$1"
}

main
