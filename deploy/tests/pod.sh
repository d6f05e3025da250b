# shellcheck shell=bash disable=SC2154
# The DaemonSet's pod as the overlay k3s-hostnetwork has it, in files of $scratch. To be sourced after
# lib.sh, by drain.sh and replace.sh.

# command, probe: one word a line; arguments: those of command alone; config/edge.yaml, its ConfigMap;
# deadline and grace, in seconds: how long the pod is let to end, by itself and by kubelet.
from_the_overlay() {
    kubectl kustomize "$deploy/kubernetes/overlays/k3s-hostnetwork" >"$scratch/overlay.yaml"
    mkdir "$scratch/config"
    python3 - "$scratch" <<'END'
import pathlib, re, sys, yaml
scratch = pathlib.Path(sys.argv[1])
objects = {one["kind"]: one for one in yaml.safe_load_all((scratch / "overlay.yaml").read_text())}
pod = objects["DaemonSet"]["spec"]["template"]["spec"]
[container] = pod["containers"]
assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["runAsGroup"] == 65532
assert [one["name"] for one in container["env"]] == ["NODE_IP"]
config = objects["ConfigMap"]["data"]["edge.yaml"]
lines = {
    "command": container["command"] + container["args"],
    "arguments": container["args"],
    "probe": container["readinessProbe"]["exec"]["command"],
}
for name, words in lines.items():
    (scratch / name).write_text("\n".join(words) + "\n")
(scratch / "config/edge.yaml").write_text(config)
(scratch / "deadline").write_text(re.fullmatch(r"(\d+)s", yaml.safe_load(config)["drain"]["deadline"])[1])
(scratch / "grace").write_text(str(pod["terminationGracePeriodSeconds"]))
END
    checks=$((checks + 1))
}

# For all hosts of the overlay: what covers a host serves, and nothing is ordered.
certificate_of_today() {
    mkdir "$scratch/today"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 60 -subj "/O=today" \
        -addext basicConstraints=critical,CA:FALSE \
        -addext "subjectAltName=DNS:app.openclaw.example,DNS:api.openclaw.example,DNS:proxy.openclaw.example,DNS:nango.openclaw.example" \
        -keyout "$scratch/today/tls.key" -out "$scratch/today/tls.crt" 2>/dev/null
    chown -R 65532:65532 "$scratch/today"
}
