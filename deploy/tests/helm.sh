#!/usr/bin/env bash
# deploy/helm/openclaw-edge/ without a cluster: helm 4.1 lints and renders it with several values; what
# comes out is held against the schemas, against what must hold of the pods, and against the pods of
# deploy/kubernetes/, which it must not differ from.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use helm kubectl yamllint
edge=$(edge_binary)
chart=$deploy/helm/openclaw-edge
export HELM_CACHE_HOME=$scratch/helm HELM_CONFIG_HOME=$scratch/helm HELM_DATA_HOME=$scratch/helm

main() {
    holds "yamllint" yamllint --strict -c "$here/yamllint.yaml" "$chart"/{Chart,values,files/rules}.yaml "$here/helm"
    platform_values
    local one
    for one in default platform whole existing; do
        rendered "$one"
    done
    for one in default platform; do
        holds "$one: what must hold" objects edge "$scratch/$one.yaml"
    done
    every_value_is_used
    configurations
    kubectl kustomize "$deploy/kubernetes/overlays/k3s-hostnetwork" >"$scratch/kustomize.yaml"
    holds "the same pods as by kustomize" objects same "$scratch/platform.yaml" "$scratch/kustomize.yaml"
    monitoring
    notes
    nothing_is_let_through
    done_with helm
}

# The values that deploy/README.md makes of the platform's edge.yaml.
platform_values() {
    {
        echo "config:"
        sed 's/^/  /' "$deploy/kubernetes/overlays/k3s-hostnetwork/edge.yaml"
    } >"$scratch/platform-values.yaml"
    echo "{}" >"$scratch/default-values.yaml"
    cp "$here/helm/"{whole,existing}.yaml "$scratch"
    mv "$scratch/whole.yaml" "$scratch/whole-values.yaml"
    mv "$scratch/existing.yaml" "$scratch/existing-values.yaml"
}

rendered() {
    holds "$1: lint" helm lint --strict --kube-version 1.34 "$chart" -f "$scratch/$1-values.yaml"
    render -f "$scratch/$1-values.yaml" >"$scratch/$1.yaml"
    holds "$1 against the schemas" objects schema "$scratch/$1.yaml"
    holds "$1: yamllint of what is rendered" yamllint --strict \
        -d '{extends: relaxed, rules: {line-length: disable, key-duplicates: enable, indentation: disable}}' "$scratch/$1.yaml"
}

render() {
    helm template openclaw-edge "$chart" --namespace openclaw-edge --kube-version 1.34 "$@"
}

# Each value of whole.yaml shows in what it makes, so that no template has lost one.
every_value_is_used() {
    local text
    for text in "registry.openclaw.example/openclaw-edge@sha256:e3b0c44298fc1c14" "name: registry" "name: front" \
        "imagePullPolicy: Always" "deadline: 600s" "path: /srv/openclaw-edge" "registry.openclaw.example/busybox:1.37.0" \
        "memory: 16Mi" "serviceAccountName: edge" "openclaw.example/team: platform" "memory: 1Gi" \
        'openclaw.example/edge: "yes"' "kubernetes.io/arch" "openclaw.example/note" "team: platform" \
        "minReadySeconds: 10" "terminationGracePeriodSeconds: 620" "OPENCLAW_EDGE_LOG" "secretKeyRef" "secretRef" \
        "--log-format" "mountPath: /run/secrets" "front-extra" "interval: 30s" "release: prometheus" \
        "upstream_connections: 1000000" "name: front-metrics" 'app.kubernetes.io/name: edge'; do
        holds "whole.yaml: $text" grep -qF -- "$text" "$scratch/whole.yaml"
    done
}

configurations() {
    local one
    for one in default platform; do
        objects text "$scratch/$one.yaml" ConfigMap edge.yaml "$scratch/edge.yaml"
        holds "$one: openclaw-edge check" env NODE_IP=192.0.2.10 "$edge" check --config "$scratch/edge.yaml"
    done
    grep -q "5 routes, 4 upstreams, 1 certificate, 7 tests" "$scratch/said" || fail "the platform's configuration is not whole"
    # The chart has an extra ConfigMap there.
    render -f "$scratch/whole-values.yaml" --set extraObjects=null >"$scratch/whole-one.yaml"
    objects text "$scratch/whole-one.yaml" ConfigMap edge.yaml "$scratch/edge.yaml"
    holds "whole: openclaw-edge check" env NODE_IP=192.0.2.10 EDGE_TOKEN=x "$edge" check --config "$scratch/edge.yaml"
}

monitoring() {
    python3 - "$scratch/whole.yaml" "$chart/files/rules.yaml" >"$scratch/said" <<'END' || { cat "$scratch/said"; fail "rules"; }
import sys, yaml
rendered, rules = (list(yaml.safe_load_all(open(path))) for path in sys.argv[1:])
[rule] = [one for one in rendered if one and one["kind"] == "PrometheusRule"]
assert rule["spec"] == rules[0], "the PrometheusRule is not files/rules.yaml"
END
    checks=$((checks + 1))
    refused "monitoring by default" "0" grep -c monitoring.coreos.com "$scratch/default.yaml"
}

# What an installation says at its end, and what a package of the chart has in it.
notes() {
    holds "install" helm install openclaw-edge "$chart" --namespace openclaw-edge --dry-run=client
    grep -q "config.routes is empty" "$scratch/said" || fail "NOTES.txt does not say that there are no routes"
    holds "install" helm install openclaw-edge "$chart" --namespace openclaw-edge --dry-run=client \
        -f "$scratch/platform-values.yaml"
    ! grep -q "config.routes is empty" "$scratch/said" || fail "NOTES.txt says that there are no routes"
    holds "package" helm package "$chart" -d "$scratch"
    holds "the package has the rules" tar xzOf "$scratch"/openclaw-edge-*.tgz openclaw-edge/files/rules.yaml
    cmp -s "$scratch/said" "$chart/files/rules.yaml" || fail "the package has other rules"
}

nothing_is_let_through() {
    no "an unknown value" "imagee" --set imagee.tag=1
    no "an unknown value within another" "tagg" --set image.tagg=1
    no "latest" "/image/tag" --set image.tag=latest
    no "half a digest" "/image/digest" --set image.digest=sha256:12
    no "text for a number" "terminationGracePeriodSeconds" --set-string terminationGracePeriodSeconds=345
    no "a relative hostPath" "/state/hostPath" --set state.hostPath=var/lib
    no "a subPath" "extraVolumeMounts" --set 'extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=/a,extraVolumeMounts[0].subPath=b'
    no "another version" "/config/version" --set config.version=2
    no "NODE_IP twice" "/env/0/name" --set 'env[0].name=NODE_IP,env[0].value=x'
    no "a socket elsewhere" "/config/admin/socket" --set config.admin.socket=/tmp/admin.sock
    no "no socket" "socket" --set config.admin.socket=null
    no "a drain in minutes" "/config/drain/deadline" --set config.drain.deadline=5m
    no "no time after the drain" "must be 10 s more" --set terminationGracePeriodSeconds=335
    no "another state_dir" "state_dir must be" --set config.state_dir=/data
    no "metrics on another port" "metrics.port is 9902" --set metrics.serviceMonitor.enabled=true,metrics.port=9902
    no "an old Kubernetes" "kubeVersion" --kube-version 1.21
}

no() {
    refused "$1" "$2" render "${@:3}"
}

main
