#!/usr/bin/env bash
# The platform's registry of tenants as it is, then 10,000 tenants of which one changes each second
# while 50 others are in use (`soak tenants`): half of the loads and more take less than 200 ms, no
# request of the others fails, none of their connections is closed. Half a minute.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
registry=$deploy/../config/tests/tenants/production.json

main() {
    use python3
    local edge load
    edge=$(edge_binary)
    load=$(load_binary)
    as_it_is "$edge"
    a_bad_entry "$edge"
    "$load" tenants --edge "$edge" --seconds 20 --out "$scratch" --name tenants >"$scratch/said" 2>&1 ||
        { cat "$scratch/said" "$scratch/tenants.md" >&2 || true; fail "10,000 tenants"; }
    checks=$((checks + 1))
    grep -E '^\| (load|requests and echoes|connections closed)' "$scratch/tenants.md"
    done_with tenants
}

as_it_is() {
    cp "$registry" "$scratch/production.json"
    cat >"$scratch/edge.yaml" <<END
version: 1
state_dir: $scratch/state
listeners: { http: { bind: ["127.0.0.1:0"] } }
tenants:
  file: $scratch/production.json
  routes:
    gateway: { hosts: ["{tenant}.gw.openclaw.example"], endpoint: "{host}:{gateway_port}" }
    bridge: { hosts: ["{tenant}-bridge.gw.openclaw.example"], endpoint: "{host}:{bridge_port}" }
tests:
  - { request: "GET http://acme-corp.gw.openclaw.example/", route: acme-corp.gateway }
  - { request: "GET http://newtenant-corp-bridge.gw.openclaw.example/", route: newtenant-corp.bridge }
END
    holds "production.json is good" "$1" check --config "$scratch/edge.yaml"
    grep -q "2 tenants" "$scratch/said" || { cat "$scratch/said" >&2; fail "not two tenants"; }
}

a_bad_entry() {
    sed -i 's/"gateway_port": 18789/"gateway_port": 187890/' "$scratch/production.json"
    refused "a bad entry is named" production.json:10 "$1" check --config "$scratch/edge.yaml"
}

main
