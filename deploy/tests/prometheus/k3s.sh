# shellcheck shell=bash disable=SC2154
# prometheus-k3s.yml byte for byte: its two nodes are addresses of this network, each with an edge whose
# `admin.listen` is as on k3s. To be sourced by ../prometheus.sh.

cluster() {
    local number
    for number in 0 1; do
        ip address add "192.0.2.1$number/32" dev lo
        cat >"$work/node-$number.yaml" <<-END
		version: 1
		state_dir: $work/node-$number
		admin: { listen: "\${env:NODE_IP}:9901", socket: $work/node-$number.sock }
		listeners: { http: { bind: ["192.0.2.1$number:80"] } }
		routes: { app: { hosts: [app.openclaw.example], respond: { status: 200 } } }
		END
        start "node-$number" env NODE_IP="192.0.2.1$number" "$edge" run --config "$work/node-$number.yaml"
    done
    start cluster prometheus --config.file="$shipped/prometheus-k3s.yml" --storage.tsdb.path="$work/tsdb-k3s" \
        --web.listen-address="127.0.0.1:$cluster" --log.level=warn
}

# In the shipped interval, 15 s: begun at first, asked for at last.
the_cluster_is_scraped() {
    wait_for 60 "the nodes of prometheus-k3s.yml" cluster_has 'up{job="openclaw-edge", node=~"node-[12]"} == 1' 2
    wait_for 60 "their metrics" cluster_has "count by (node) (edge_config_last_reload_successful)" 2
    curl -fsS "http://127.0.0.1:$cluster/api/v1/rules" >"$work/k3s-rules"
    jq -e '[.data.groups[].rules[]] | length > 20 and all(.health == "ok")' "$work/k3s-rules" >/dev/null ||
        fail "a rule of prometheus-k3s.yml is not well: $(jq -c '[.data.groups[].rules[] | select(.health != "ok")]' "$work/k3s-rules")"
    end cluster
    echo "  prometheus-k3s.yml as it is: both nodes are scraped, all rules are well"
}

# cluster_has QUERY COUNT
cluster_has() {
    [ "$(curl -fsS --get --data-urlencode "query=$1" "http://127.0.0.1:$cluster/api/v1/query" | jq '.data.result | length')" = "$2" ]
}
