#!/usr/bin/env bash
# Makes from deploy/prometheus/rules/ what Kubernetes wants of it, the PrometheusRule of
# components/monitoring and the chart's file; with --check only says whether they are up to date.
#   deploy/rules.sh [--check]
# OPENCLAW_EDGE_RULES is another folder of rule files.
set -euo pipefail
cd "$(dirname "$0")"
rules=${OPENCLAW_EDGE_RULES:-prometheus/rules}
object=kubernetes/components/monitoring/prometheusrule.yaml
file=helm/openclaw-edge/files/rules.yaml

main() {
    [ $# -eq 0 ] || [ "$*" = --check ] || fail "usage: deploy/rules.sh [--check]"
    local files=("$rules"/*.yml)
    [ -e "${files[0]}" ] || fail "no rule file in $rules"
    new=$(mktemp -d)
    trap 'rm -rf "$new"' EXIT
    groups "${files[@]}" >"$new/groups"
    { header; cat "$new/groups"; } >"$new/file"
    { header; object; sed 's/^./  &/' "$new/groups"; } >"$new/object"
    if [ $# -eq 0 ]; then
        mkdir -p "${file%/*}"
        cp "$new/file" "$file"
        cp "$new/object" "$object"
        return
    fi
    local stale=0
    cmp "$new/file" "$file" || stale=1
    cmp "$new/object" "$object" || stale=1
    [ $stale = 0 ] || fail "not made from $rules: run deploy/rules.sh"
}

header() { echo "# Made by deploy/rules.sh from deploy/prometheus/rules/; edit there."; }

object() {
    cat <<'END'
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: openclaw-edge
  namespace: openclaw-edge
  labels:
    app.kubernetes.io/name: openclaw-edge
    app.kubernetes.io/component: metrics
spec:
END
}

# Every file is one mapping with the one key `groups`.
groups() {
    local one
    echo "groups:"
    for one; do
        [ "$(grep '^[^ #]' "$one")" = groups: ] || fail "$one has another top-level key than groups"
        sed '/^#/d; /^groups:$/d' "$one"
    done
}

fail() {
    echo "rules: $*" >&2
    exit 1
}

main "$@"
