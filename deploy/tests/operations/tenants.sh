# shellcheck shell=bash disable=SC2154
# Tenants that come, go and are wrong, as deploy/README.md says. To be sourced by ../operations.sh.

acme='acme-corp.gw.openclaw.example'
newcomer='newtenant-corp.gw.openclaw.example'

# registry TENANT PORT [TENANT PORT]...: production.json with these, put in place by rename.
registry() {
    local servers=
    while [ $# -gt 0 ]; do
        servers="$servers${servers:+,}
    { \"id\": \"prd-$1\", \"host\": \"127.0.0.1\", \"user\": \"deploy\", \"gateway_port\": $2, \"tenant\": \"$1\" }"
        shift 2
    done
    printf '{ "servers": [%s\n] }\n' "$servers" >"$work/servers"
    install -m 0640 "$work/servers" "$work/production.json.new"
    mv "$work/production.json.new" "$work/production.json"
}

tenants() {
    wait_for 30 "the certificate of a tenant" valid old $acme
    keeps stays $acme
    a_tenant_comes
    a_bad_entry
    a_tenant_changes
    a_tenant_goes
    # One connection from before to after all of this.
    [ "$(on_kept stays)" = 200 ] || fail "the other tenant's connection: $(on_kept stays)"
    proven "a tenant comes, changes and goes; its hosts answer 421 on open connections, then none; the other's connection stays"
}

a_tenant_comes() {
    registry acme-corp "$one" newtenant-corp "$two"
    must old check
    wait_for 30 "the tenant" says old tenants newtenant-corp
    wait_for 30 "its certificate" valid old $newcomer
    must old doctor
    grep -q "^ok *dns .*$newcomer" "$work/said" || fail "doctor says nothing of the tenant's DNS: $(cat "$work/said")"
    # Our own CA stands for a public one, hence --insecure.
    wait_for 30 "its gateway" says old healthcheck --insecure --resolve "$newcomer:127.0.0.1" "https://$newcomer:$https/health"
}

# It alone is refused.
a_bad_entry() {
    registry acme-corp "$one" newtenant-corp "$two" third-corp 187890
    wait_for 30 "the refusal" refuses third-corp
    grep -q 'production.json:4' "$work/said" || fail "no file and line: $(cat "$work/said")"
    plain $acme 200 || fail "a bad entry ends another tenant"
    plain $newcomer 200 || fail "a bad entry ends another tenant"
    registry acme-corp "$one" newtenant-corp "$two"
    wait_for 30 "no refusal" says old tenants --refused
}

# Exit code 1, as somebody must look.
refuses() { ! says old tenants --refused && grep -q "$1" "$work/said"; }

# Another endpoint, which is killed to tell them apart.
a_tenant_changes() {
    registry acme-corp "$one" newtenant-corp "$three"
    end "backend-$two"
    wait_for 20 "the other endpoint" plain $newcomer 200
    must old tenants newtenant-corp
}

a_tenant_goes() {
    keeps goes $newcomer
    registry acme-corp "$one"
    wait_for 30 "404 in plain HTTP" plain $newcomer 404
    [ "$(on_kept goes)" = 421 ] || fail "on an open connection a tenant that is gone answers $(on_kept goes)"
    ! shown "$https" $newcomer >/dev/null 2>&1 || fail "a handshake for a tenant that is gone"
    shown "$https" $acme >/dev/null || fail "no handshake for the other tenant"
    ! says old tenants newtenant-corp || fail "the tenant is still there: $(cat "$work/said")"
    plain $acme 200 || fail "the other tenant"
}

# plain HOST STATUS
plain() { [ "$(curl -s -o /dev/null -w '%{http_code}' -H "Host: $1" "http://127.0.0.1:$http/health")" = "$2" ]; }

# keeps NAME HOST: a TLS connection that has been used and stays.
keeps() {
    : >"$work/kept-$1.log"
    start "kept-$1" python3 "$here/operations/kept.py" "$https" "$2" "$work/again-$1"
    wait_for 30 "a connection to $2" grep -qx 200 "$work/kept-$1.log"
}

# on_kept NAME: the status of a second request on that connection.
on_kept() {
    touch "$work/again-$1"
    wait_for 30 "a second answer" has_lines 2 "$work/kept-$1.log"
    tail -n 1 "$work/kept-$1.log"
}

has_lines() { [ "$(wc -l <"$2")" -ge "$1" ]; }
