#!/usr/bin/env bash
# deploy/kubenix/ without kubenix, which no package registry has: the modules are functions to plain
# attribute sets. Nix parses and evaluates them strictly; groups and attribute sets become objects as
# kubenix makes them (objects.py), and these are held against the schemas, against what must hold of
# the pods, and against the pods of deploy/kubernetes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use nix-instantiate kubectl
edge=$(edge_binary)
# A store of its own: nothing is built, nothing of the machine's is touched.
export NIX_STORE_DIR=$scratch/store NIX_STATE_DIR=$scratch/nix HOME=$scratch
modules=$deploy/kubenix

main() {
    local one
    for one in "$modules"/*.nix; do
        holds "${one##*/} parses" nix-instantiate --parse "$one"
    done
    edge_module
    variant
    monitoring_module
    of_the_flake
    refused "a misspelt name" "undefined variable 'labells'" \
        evaluate "import $(changed 's/metadata = { inherit labels; }/metadata = { labels = labells; }/')"
    done_with kubenix
}

# A function, called as kubenix calls a module.
evaluate() {
    nix-instantiate --eval --strict --json --store dummy:// --expr "$1 { }"
}

# The module and its edge.yaml elsewhere, with a change.
changed() {
    local copy
    copy=$(mktemp -d "$scratch/changed.XXXXXX")
    cp -L "$modules/edge.yaml" "$modules/openclaw-edge.nix" "$copy"
    sed -i "$1" "$copy/openclaw-edge.nix"
    ! cmp -s "$copy/openclaw-edge.nix" "$modules/openclaw-edge.nix" || fail "nothing is changed by $1"
    echo "$copy/openclaw-edge.nix"
}

# objects_of MODULE OUT
objects_of() {
    evaluate "import $1" >"$scratch/module.json" || fail "$1 does not evaluate"
    objects kubenix "$scratch/module.json" >"$2" || fail "$1 has groups that are unknown"
}

edge_module() {
    local made=$scratch/edge.yaml
    objects_of "$modules/openclaw-edge.nix" "$made"
    holds "the objects against the schemas" objects schema "$made"
    holds "what must hold" objects edge "$made"
    kubectl kustomize "$deploy/kubernetes/overlays/k3s-hostnetwork" >"$scratch/kustomize.yaml"
    holds "the same pods as by kustomize" objects same "$made" "$scratch/kustomize.yaml"
    objects text "$made" ConfigMap edge.yaml "$scratch/config.yaml"
    holds "openclaw-edge check" env NODE_IP=192.0.2.10 "$edge" check --config "$scratch/config.yaml"
    objects_of "$(changed 's/hostNetwork = true/hostNetwork = false/')" "$scratch/other.yaml"
    refused "other pods" "hostNetwork" objects same "$scratch/other.yaml" "$scratch/kustomize.yaml"
    objects_of "$(changed 's/maxSurge/maxSurg/')" "$scratch/other.yaml"
    refused "maxSurg" "maxSurg" objects schema "$scratch/other.yaml"
}

variant() {
    objects_of "$(changed 's/stateByTmpfiles = false/stateByTmpfiles = true/')" "$scratch/tmpfiles.yaml"
    holds "stateByTmpfiles against the schemas" objects schema "$scratch/tmpfiles.yaml"
    holds "what must hold of stateByTmpfiles" objects edge "$scratch/tmpfiles.yaml"
    refused "an init container by tmpfiles" "0" grep -c state-owner "$scratch/tmpfiles.yaml"
}

# Every file it imports is one object of a type that kubenix has or that it declares.
monitoring_module() {
    evaluate "(x: let m = import $modules/openclaw-edge-monitoring.nix x; in
        { inherit (m.kubernetes) customTypes; imports = map toString m.kubernetes.imports; })" \
        >"$scratch/monitoring.json" || fail "openclaw-edge-monitoring.nix does not evaluate"
    python3 - "$scratch/monitoring.json" >"$scratch/said" 2>&1 <<'END' || { cat "$scratch/said"; fail "monitoring"; }
import json, sys, yaml
module = json.load(open(sys.argv[1]))
types = {(f"{one['group']}/{one['version']}", one["kind"]) for one in module["customTypes"].values()}
types.add(("v1", "Service"))
assert len(module["imports"]) == 3
for path in module["imports"]:
    [one] = yaml.safe_load_all(open(path))
    types.remove((one["apiVersion"], one["kind"]))
assert not types, f"declared, but not imported: {types}"
END
    checks=$((checks + 1))
}

# The flake's output `kubenixModules` is those modules and no other; its other outputs are nixos.sh's.
of_the_flake() {
    local flake="((import $deploy/nixos/flake.nix).outputs { self = { }; nixpkgs.lib.genAttrs = _: _: { }; }).kubenixModules"
    told "$flake" >"$scratch/flake.json" || fail "the flake's modules do not evaluate"
    told "rec { openclaw-edge = import $modules/openclaw-edge.nix; default = openclaw-edge;
        openclaw-edge-monitoring = import $modules/openclaw-edge-monitoring.nix; }" >"$scratch/files.json"
    holds "the modules of the flake" cmp "$scratch/flake.json" "$scratch/files.json"
    holds "they have the DaemonSet" grep -q daemonSets "$scratch/flake.json"
}

# told MODULES: what each of these gives kubenix.
told() {
    evaluate "({ }: builtins.mapAttrs (_: module: let made = (module { }).kubernetes; in
        made // { imports = map toString (made.imports or [ ]); }) ($1))"
}

main
