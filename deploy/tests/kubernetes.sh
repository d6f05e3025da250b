#!/usr/bin/env bash
# deploy/kubernetes/ without a cluster: rendered by kubectl 1.34, held against the schemas of
# Kubernetes 1.34 and of the Prometheus operator, and against what issue and README promise of the
# pods. The init container's script and the adopting Job are run for real, with the rights that they
# have in a pod; that takes root.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use kubectl yamllint setpriv unshare openssl
edge=$(edge_binary)
source=$deploy/kubernetes
[ "$(id -u)" = 0 ] || fail "takes root: the init container's rights are played"

main() {
    holds "yamllint" yamllint --strict -c "$here/yamllint.yaml" "$source"
    # A folder of its own: kustomize takes resources by relative paths only.
    cp -r "$source" "$scratch/kubernetes"
    variants
    rendered
    configuration
    state_owner
    adoption
    runbook
    commands
    holds "prometheusrule.yaml is up to date" "$deploy/rules.sh" --check
    done_with kubernetes
}

# The overlay with both components, as its comments say.
variants() {
    local overlays=$scratch/kubernetes/overlays
    cp -r "$overlays/k3s-hostnetwork" "$overlays/whole"
    sed -i '/^# components:/,/^#   - .*tmpfiles/s/^# //' "$overlays/whole/kustomization.yaml"
    [ "$(grep -c '^  - .*components/' "$overlays/whole/kustomization.yaml")" = 2 ] || fail "no components to try"
    # Another configuration, nothing else.
    cp -r "$overlays/k3s-hostnetwork" "$overlays/changed"
    sed -i 's/20MiB/30MiB/' "$overlays/changed/edge.yaml"
}

rendered() {
    local one
    for one in base adopt overlays/{k3s-hostnetwork,whole,changed}; do
        render "$one"
        holds "$one against the schemas" objects schema "$scratch/${one##*/}.yaml"
    done
    for one in k3s-hostnetwork whole; do
        holds "what must hold of $one" objects edge "$scratch/$one.yaml"
    done
    holds "every finding can be made" objects mutations "$scratch/k3s-hostnetwork.yaml"
    holds "a change of the configuration changes no pod" \
        objects same "$scratch/k3s-hostnetwork.yaml" "$scratch/changed.yaml"
    refused "other pods" "initContainers" objects same "$scratch/k3s-hostnetwork.yaml" "$scratch/whole.yaml"
    holds "it differs" grep -q 30MiB "$scratch/changed.yaml"
    holds "the ServiceMonitor leads to the pods" objects monitored "$scratch/whole.yaml"
    unmonitored "selects no Service" '(?<=matchLabels:\n      app.kubernetes.io/component: )metrics' other
    unmonitored "not admin.listen" 'targetPort: 9901' 'targetPort: 9902'
    unmonitored "not that of the alerts" 'jobLabel: .*' 'jobLabel: app.kubernetes.io/component'
    misspelt maxSurge maxSurg
    misspelt jobLabel jobLabl
    misspelt 'alert: EdgeDown' 'alrt: EdgeDown'
    # The API's own types read it as well.
    holds "kubectl decodes it" kubectl label --local -f "$scratch/k3s-hostnetwork.yaml" --overwrite \
        app.kubernetes.io/name=openclaw-edge -o name
}

render() {
    kubectl kustomize "$scratch/kubernetes/$1" >"$scratch/${1##*/}.yaml" || fail "$1 does not render"
}

# unmonitored FINDING PATTERN OTHER: where the pattern fits first there is something else.
unmonitored() {
    python3 -c 'import re, sys; text, n = re.subn(sys.argv[1], sys.argv[2], sys.stdin.read(), count=1); assert n; print(text)' \
        "$2" "$3" <"$scratch/whole.yaml" >"$scratch/unmonitored.yaml"
    refused "a ServiceMonitor that $1" "$1" objects monitored "$scratch/unmonitored.yaml"
}

misspelt() {
    sed "s/$1/$2/" "$scratch/whole.yaml" >"$scratch/misspelt.yaml"
    refused "$2" "${2%%:*}" objects schema "$scratch/misspelt.yaml"
}

configuration() {
    local one
    for one in base k3s-hostnetwork; do
        objects text "$scratch/$one.yaml" ConfigMap edge.yaml "$scratch/edge.yaml"
        holds "$one: openclaw-edge check" env NODE_IP=192.0.2.10 "$edge" check --config "$scratch/edge.yaml"
    done
    for one in --socket --attempts --interval; do
        holds "healthcheck has $one" grep -qe "$one" <("$edge" healthcheck --help)
    done
}

# The script as root with CHOWN alone, which is all the container leaves it.
state_owner() {
    local script dir=$scratch/state before
    objects text "$scratch/k3s-hostnetwork.yaml" DaemonSet state-owner "$scratch/script"
    script=$(cat "$scratch/script")
    grep -qF "$(sed 's/^/              /' "$scratch/script")" "$source/adopt/job.yaml" ||
        fail "adopt/job.yaml has another script than the DaemonSet"

    mkdir -m 0755 "$dir"
    holds "a new directory" as_init "$script" "$dir"
    [ "$(stat -c %u:%g:%a "$dir")" = 65532:65532:700 ] || fail "it is not the edge's: $(stat -c %u:%g:%a "$dir")"
    before=$(stat -c %z "$dir")
    holds "the same again" as_init "$script" "$dir"
    [ "$(stat -c %z "$dir")" = "$before" ] || fail "a right directory is changed: another pod uses it"
    chown 999:999 "$dir"
    chmod 0755 "$dir"
    holds "somebody else's" as_init "$script" "$dir"
    [ "$(stat -c %u:%g:%a "$dir")" = 65532:65532:700 ] || fail "it is not the edge's: $(stat -c %u:%g:%a "$dir")"
    refused "a script without CHOWN" "not permitted" \
        setpriv --bounding-set=-all --inh-caps=-all --no-new-privs sh -ec "chown 0:0 '$dir'; chown 999:999 '$dir'"
}

as_init() {
    setpriv --bounding-set=-all,+chown --inh-caps=-all --no-new-privs sh -ec "$1" state-owner "$2"
}

# The Job's own command as its user, on directories mounted where the pod has them, a Secret as
# kubelet lays it out.
adoption() {
    local dir=$scratch/adopt names=DNS:app.openclaw.example
    mkdir -p "$dir"/{etc,state,secret/..2026}
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 60 -subj / \
        -addext "subjectAltName=$names,DNS:api.openclaw.example,DNS:proxy.openclaw.example,DNS:nango.openclaw.example" \
        -keyout "$dir/secret/..2026/tls.key" -out "$dir/secret/..2026/tls.crt" 2>/dev/null
    ln -s ..2026 "$dir/secret/..data"
    ln -s ..data/tls.crt "$dir/secret/tls.crt"
    ln -s ..data/tls.key "$dir/secret/tls.key"
    cp "$scratch/edge.yaml" "$dir/etc/"
    chown -R 65532:65532 "$dir"
    chmod 0755 "$scratch"
    chmod 0700 "$dir/state"
    mapfile -t args < <(python3 - "$scratch/adopt.yaml" <<'END'
import sys, yaml
for one in yaml.safe_load_all(open(sys.argv[1])):
    if one["kind"] == "Job":
        print("\n".join(one["spec"]["template"]["spec"]["containers"][0]["args"]))
END
    )
    holds "the Job's command" in_pod "$dir" "$edge" "${args[@]}"
    grep -q '1 usable, 0 refused' "$scratch/said" || fail "nothing is adopted: $(cat "$scratch/said")"
    [ -n "$(find "$dir/state" -name '*.pem' -perm 0600 -user 65532)" ] || fail "nothing is stored"
    holds "then nothing is left to order" in_pod "$dir" "$edge" check --config /etc/openclaw-edge/edge.yaml
    grep -q "none to order; 1 in /var/lib/openclaw-edge" "$scratch/said" || fail "an order is left: $(cat "$scratch/said")"
    rm "$dir/secret/tls.key"
    refused "half a Secret" "its private key is not beside it" in_pod "$dir" "$edge" "${args[@]}"
}

in_pod() {
    # shellcheck disable=SC2016
    unshare --mount sh -ec '
        dir=$1; shift
        for one in /etc /var/lib /run; do mount -t tmpfs -o size=1m,mode=755 tmpfs "$one"; done
        mkdir /etc/openclaw-edge /var/lib/openclaw-edge /run/adopt
        mount --bind "$dir/etc" /etc/openclaw-edge
        mount --bind "$dir/state" /var/lib/openclaw-edge
        mount --bind "$dir/secret" /run/adopt
        exec env NODE_IP=192.0.2.10 setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs \
            --bounding-set=-all --inh-caps=-all "$@"' sh "$@"
}

# The commands of the cut-over that change text: each one out of the README, on a copy.
runbook() {
    local readme=$deploy/README.md edits patches one
    cp -r "$source" "$scratch/repo"
    mapfile -t edits < <(sed -n 's#^sed -i \(.*\) deploy/kubernetes/overlays/k3s-hostnetwork/edge.yaml$#\1#p' "$readme")
    [ ${#edits[@]} = 2 ] || fail "the README has not two edits of edge.yaml"
    one=$scratch/repo/overlays/k3s-hostnetwork/edge.yaml
    eval "sed -i ${edits[0]} '$one'"
    holds "the rehearsal's ports" test "$(grep -c 'bind: \["\[::\]:8\(080\|443\)"\]' "$one")" = 2
    # Its tests expect the ports that users see.
    sed '/^tests:/,$d' "$one" >"$scratch/rehearsal.yaml"
    holds "openclaw-edge check of them" env NODE_IP=192.0.2.10 "$edge" check --config "$scratch/rehearsal.yaml"
    eval "sed -i ${edits[1]} '$one'"
    holds "the ports again" cmp "$one" "$source/overlays/k3s-hostnetwork/edge.yaml"

    mapfile -t patches < <(sed -n "s/^kubectl .* patch daemonset .* -p '\(.*\)'$/\1/p" "$readme")
    [ ${#patches[@]} = 3 ] || fail "the README has not three patches"
    one=$scratch/daemonset.yaml
    cp "$source/base/daemonset.yaml" "$one"
    for patch in "${patches[0]}" "${patches[1]}"; do
        kubectl patch --local -f "$one" -p "$patch" -o yaml >"$scratch/parked.yaml" || fail "no patch: $patch"
        holds "parked" grep -q 'openclaw.example/parked: "yes"' "$scratch/parked.yaml"
    done
    kubectl patch --local -f "$scratch/parked.yaml" -p "${patches[2]}" -o yaml >"$one" || fail "no patch: ${patches[2]}"
    refused "still parked" 0 grep -c parked "$one"
    holds "as before" grep -q 'kubernetes.io/os: linux' "$one"
}

# Every command of ours in the README's blocks is one that the binary has.
commands() {
    local one found=0
    while read -r one; do
        # shellcheck disable=SC2086
        holds "openclaw-edge $one" "$edge" $one --help
        found=$((found + 1))
    done < <(awk '/^```sh/ { block = 1; next } /^```/ { block = 0 } block' "$deploy/README.md" |
        grep -oE '(^|/usr/bin/|NODE_IP=[^ ]* |--rm .*edge )(openclaw-edge |edge )?[a-z]+( [a-z]+)?( |$)' |
        sed -nE 's#^.*(openclaw-edge|--rm .*edge) ([a-z]+( [a-z]+)?) ?$#\2#p' | sort -u)
    [ $found -ge 5 ] || fail "only $found commands are found in the README"
}

main
