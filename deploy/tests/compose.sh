#!/usr/bin/env bash
# deploy/compose/ by Docker Compose itself, which reads and resolves it; what must hold of the result,
# each finding provoked once; the edge's configuration and the workflow's command by the binary.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use docker-compose yamllint
edge=$(edge_binary)
source=$deploy/compose

main() {
    holds "yamllint" yamllint --strict -c "$here/yamllint.yaml" "$source"
    cp -r "$source" "$scratch/compose"
    holds "docker-compose config" config
    config --format json >"$scratch/resolved.json"
    holds "what must hold" python3 "$here/compose.py" "$scratch/resolved.json"
    holds "every finding can be made" python3 "$here/compose.py" --mutations "$scratch/resolved.json"
    misspelt read_only readonly
    misspelt cap_drop cap_drops
    misspelt stop_grace_period stop_grace
    holds "openclaw-edge check" "$edge" check --config "$source/etc/edge.yaml"
    workflow
    done_with compose
}

config() {
    docker-compose --file "$scratch/compose/compose.yaml" config "$@"
}

misspelt() {
    sed -i "s/ $1:/ $2:/" "$scratch/compose/compose.yaml"
    refused "$2" "$2" config
    cp "$source/compose.yaml" "$scratch/compose/compose.yaml"
}

# The gate's own command line, but for its host and its patience: it is understood (2 would be usage),
# and where nobody listens it fails with the code for that.
workflow() {
    local gate words code=0
    gate=$(python3 - "$source/deploy-steps.yaml" <<'END'
import sys, yaml
[gate] = [step["run"] for step in yaml.safe_load(open(sys.argv[1])) if step["name"] == "Health gate"]
print(gate)
END
    )
    gate=${gate#* exec -T edge }
    [[ $gate =~ ^/usr/bin/openclaw-edge\ healthcheck\ --attempts\ 3\ --interval\ 5s\ https://[a-z./-]+$ ]] ||
        fail "the health gate is another command: $gate"
    read -ra words <<<"$gate"
    # Port 1 of loopback: nobody listens there.
    words[5]=10ms words[6]=https://127.0.0.1:1/healthz
    "$edge" "${words[@]:1}" >"$scratch/said" 2>&1 || code=$?
    [ $code = 3 ] || fail "'${words[*]}' ends with $code, not 3: $(cat "$scratch/said")"
    checks=$((checks + 1))
}

main
