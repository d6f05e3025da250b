"""What deploy/tests/*.sh ask of Kubernetes objects.

    objects.py schema FILE              every object against Kubernetes 1.34 or its CRD, strictly
    objects.py edge FILE                what must hold of the edge's DaemonSet
    objects.py mutations FILE           ... and that each of these findings can be made
    objects.py same FILE FILE           the same pods
    objects.py monitored FILE           what the ServiceMonitor leads to is the DaemonSet's admin port
    objects.py text FILE KIND KEY OUT   a text of an object: edge.yaml of ConfigMap, script of DaemonSet
    objects.py kubenix FILE             Nix' JSON of `kubernetes.resources` to objects

Findings go to stdout, one a line; with findings the exit code is 1.
"""

import copy
import json
import re
import sys

import yaml

KUBERNETES = "1.34"
UID = 65532
PROGRAM = "/usr/bin/openclaw-edge"


def load(path):
    with open(path, encoding="utf-8") as file:
        return [one for one in yaml.safe_load_all(file) if one is not None]


def find(objects, kind, component=None):
    found = [
        one
        for one in objects
        if one["kind"] == kind
        and component in (None, one["metadata"].get("labels", {}).get("app.kubernetes.io/component"))
    ]
    if len(found) != 1:
        raise SystemExit(f"{len(found)} objects of kind {kind}, not one")
    return found[0]


# Schemas


def schema(path):
    import kubernetes_validate

    objects = load(path)
    if not objects:
        yield f"{path}: no object"
    for one in objects:
        name = f"{one['kind']} {one['metadata']['name']}"
        if one["apiVersion"].endswith("monitoring.coreos.com/v1"):
            yield from (f"{name}: {finding}" for finding in operator_schema(one))
            continue
        try:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
        except Exception as why:  # the package has no common type of its errors
            yield f"{name}: {getattr(why, 'message', why)}"


def operator_schema(one):
    from cloudcoil.models.prometheus_operator import v1

    try:
        model = getattr(v1, one["kind"]).model_validate(one)
    except Exception as why:
        yield str(why)
        return
    # The types take unknown keys and drop them.
    yield from dropped(one, model.model_dump(by_alias=True, exclude_unset=True, mode="json"), "")


def dropped(given, kept, at):
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                yield f"unknown key {at}.{key}"
            else:
                yield from dropped(value, kept[key], f"{at}.{key}")
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (one, other) in enumerate(zip(given, kept)):
            yield from dropped(one, other, f"{at}[{index}]")


# What must hold


def monitored(objects):
    """What the operator makes of a ServiceMonitor needs a cluster; what it starts from is all here."""
    monitor, daemon = find(objects, "ServiceMonitor"), find(objects, "DaemonSet")
    service = find(objects, "Service", "metrics")
    admin = yaml.safe_load(find(objects, "ConfigMap")["data"]["edge.yaml"])["admin"]["listen"]
    labels = service["metadata"]["labels"]
    pod = daemon["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"]: port for port in service["spec"]["ports"]}
    if monitor["metadata"]["namespace"] != service["metadata"]["namespace"]:
        yield "ServiceMonitor and Service: other namespaces"
    if not monitor["spec"]["selector"]["matchLabels"].items() <= labels.items():
        yield "the ServiceMonitor selects no Service"
    if not service["spec"]["selector"].items() <= pod.items():
        yield "the Service selects no pod"
    if labels.get(monitor["spec"]["jobLabel"]) != "openclaw-edge":
        yield "jobLabel is not that of the alerts"
    if not monitor["spec"]["endpoints"]:
        yield "the ServiceMonitor names no port"
    for endpoint in monitor["spec"]["endpoints"]:
        port = ports.get(endpoint["port"], {}).get("targetPort")
        if port is None or not admin.endswith(f":{port}"):
            yield f"port {endpoint['port']} is not admin.listen's, {admin}"


def edge(objects):
    daemon = find(objects, "DaemonSet")
    config = find(objects, "ConfigMap")
    namespace = [one for one in objects if one["kind"] == "Namespace"]
    file = yaml.safe_load(config["data"]["edge.yaml"])
    pod = daemon["spec"]["template"]["spec"]
    container = pod["containers"][0]
    yield from rollout(daemon["spec"], pod, file)
    yield from node(pod)
    yield from rights(pod, container)
    yield from process(container, file)
    yield from mounts(pod, container, config)
    for one in namespace:
        level = one["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
        yield from unless(level == "privileged", "the namespace does not allow the node's network")
    for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield from unless(all(one["kind"] != kind for one in objects), f"there is a {kind}")
    accounts = [one for one in objects if one["kind"] == "ServiceAccount"]
    for one in accounts:
        token = one.get("automountServiceAccountToken")
        yield from unless(token is False, "the service account's token is mounted")


def unless(holds, finding):
    if not holds:
        yield finding


def rollout(spec, pod, file):
    rolling = spec["updateStrategy"]
    yield from unless(
        rolling == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "two pods of a rollout do not overlap",
    )
    every = pod["containers"] + pod.get("initContainers", [])
    yield from unless(not any(one.get("ports") for one in every), "a container has ports: they are host ports")
    yield from unless(spec.get("minReadySeconds", 0) >= 5, "minReadySeconds is below 5")
    grace = pod.get("terminationGracePeriodSeconds", 30)
    drain = re.fullmatch(r"(\d+)s", str(file.get("drain", {}).get("deadline")))
    yield from unless(drain and int(drain[1]) >= 330, "drain.deadline is below 330 s")
    yield from unless(
        drain and grace >= int(drain[1]) + 10, "terminationGracePeriodSeconds leaves no time after the drain"
    )


def node(pod):
    yield from unless(pod.get("hostNetwork") is True, "not on the node's network")
    yield from unless(pod.get("dnsPolicy") == "ClusterFirstWithHostNet", "dnsPolicy cannot resolve Services")
    yield from unless(pod.get("priorityClassName") == "system-node-critical", "no priority")
    yield from unless({"operator": "Exists"} in pod.get("tolerations", []), "tainted nodes get no pod")
    yield from unless(pod.get("nodeSelector", {}).get("kubernetes.io/os") == "linux", "not for Linux only")
    for one in ("hostPID", "hostIPC"):
        yield from unless(not pod.get(one), f"{one} is set")


def rights(pod, container):
    whole = pod.get("securityContext", {})
    yield from unless(
        whole.get("runAsNonRoot") is True and whole.get("runAsUser") == UID and whole.get("runAsGroup") == UID,
        f"the pod is not {UID}",
    )
    yield from unless(whole.get("seccompProfile") == {"type": "RuntimeDefault"}, "seccomp is not RuntimeDefault")
    yield from unless(pod.get("automountServiceAccountToken") is False, "a token is mounted")
    yield from unless(pod.get("enableServiceLinks") is False, "Services are in the environment")
    yield from unless(len(pod["containers"]) == 1, "there is a second container")
    yield from confined(container, ["NET_BIND_SERVICE"])
    for one in ("runAsUser", "runAsNonRoot", "seccompProfile"):
        yield from unless(one not in container["securityContext"], f"the container has its own {one}")
    for one in pod.get("initContainers", []):
        yield from confined(one, ["CHOWN"])


def confined(container, capabilities):
    name, context = container["name"], container.get("securityContext", {})
    yield from unless(context.get("allowPrivilegeEscalation") is False, f"{name} may gain privileges")
    yield from unless(context.get("readOnlyRootFilesystem") is True, f"{name} may write its root")
    yield from unless(not context.get("privileged"), f"{name} is privileged")
    yield from unless(
        context.get("capabilities") == {"drop": ["ALL"], "add": capabilities},
        f"{name} has other capabilities than {capabilities}",
    )
    yield from unless("memory" in container.get("resources", {}).get("limits", {}), f"{name} has no limit of memory")
    tag = re.search(r"(:[^/:]+|@sha256:[0-9a-f]{64})$", container["image"])
    yield from unless(tag and tag[1] != ":latest", f"{name}: {container['image']} names no version")


def process(container, file):
    yield from unless(container.get("command") == [PROGRAM], f"the command is not {PROGRAM}")
    args = container.get("args", [])
    yield from unless(
        args[:4] == ["run", "--share-ports", "--config", "/etc/openclaw-edge/edge.yaml"], "run has other arguments"
    )
    admin = file.get("admin", {})
    socket = admin.get("socket", "none")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        yield from unless(
            container.get(probe, {}).get("exec", {}).get("command") == [PROGRAM, "healthcheck", "--socket", socket],
            f"{probe} does not ask the pod's own socket, {socket}",
        )
        yield from unless(container.get(probe, {}).get("timeoutSeconds", 1) >= 5, f"{probe} is impatient")
    startup = container.get("startupProbe", {})
    yield from unless(startup.get("failureThreshold", 3) * startup.get("periodSeconds", 10) >= 60, "no time to start")
    yield from unless(admin.get("listen") == "${env:NODE_IP}:9901", "metrics are not on the node's address")
    address = {"name": "NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}
    yield from unless(address in container.get("env", []), "NODE_IP is not the node's address")


def mounts(pod, container, config):
    volumes = {one["name"]: one for one in pod["volumes"]}
    places = {one["mountPath"]: one for one in container["volumeMounts"]}

    def volume(path):
        return volumes.get(places.get(path, {}).get("name"), {})

    etc = places.get("/etc/openclaw-edge", {})
    yield from unless(
        volume("/etc/openclaw-edge").get("configMap", {}).get("name") == config["metadata"]["name"],
        "the configuration is not the ConfigMap",
    )
    yield from unless("subPath" not in etc and "subPathExpr" not in etc, "a subPath is never updated")
    yield from unless(etc.get("readOnly") is True, "the configuration can be written")
    yield from unless(
        "checksum/config" not in json.dumps(container) + json.dumps(pod), "a change of the configuration is a rollout"
    )
    state = volume("/var/lib/openclaw-edge").get("hostPath", {})
    owner = any(one["name"] == "state-owner" for one in pod.get("initContainers", []))
    yield from unless(state.get("path", "").startswith("/"), "the state is not kept on the node")
    yield from unless(
        state.get("type") == ("DirectoryOrCreate" if owner else "Directory"), "nobody makes the state directory the edge's"
    )
    run = volume("/run/openclaw-edge").get("emptyDir")
    yield from unless(run is not None and run.get("medium") == "Memory", "the socket's directory is not the pod's own")
    for one in volumes.values():
        yield from unless(
            "serviceAccountToken" not in json.dumps(one), "a volume has a token of the service account"
        )


# Each makes something wrong that `edge` must find.


def mutations():
    def at(*path, value):
        def change(objects):
            *parents, last = path
            node = find(objects, "DaemonSet")["spec"]
            for key in parents:
                node = node[key]
            if value is None:
                del node[last]
            else:
                node[last] = value

        return path, change

    pod = ("template", "spec")
    box = (*pod, "containers", 0)
    yield at("updateStrategy", "rollingUpdate", value={"maxUnavailable": 1})
    yield at("updateStrategy", "type", value="OnDelete")
    yield at("minReadySeconds", value=None)
    for key in ("hostNetwork", "dnsPolicy", "priorityClassName", "tolerations", "nodeSelector"):
        yield at(*pod, key, value=None)
    for key in ("automountServiceAccountToken", "enableServiceLinks", "securityContext"):
        yield at(*pod, key, value=None)
    yield at(*pod, "terminationGracePeriodSeconds", value=330)
    yield at(*pod, "hostPID", value=True)
    yield at(*pod, "securityContext", "seccompProfile", value={"type": "Unconfined"})
    yield at(*pod, "securityContext", "runAsUser", value=0)
    yield at(*box, "ports", value=[{"containerPort": 443}])
    for key in ("readOnlyRootFilesystem", "allowPrivilegeEscalation", "capabilities"):
        yield at(*box, "securityContext", key, value=None)
    yield at(*box, "securityContext", "capabilities", value={"drop": ["ALL"], "add": ["NET_ADMIN"]})
    yield at(*box, "securityContext", "runAsUser", value=0)
    yield at(*box, "securityContext", "privileged", value=True)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        yield at(*box, probe, value=None)
        yield at(*box, probe, "exec", value={"command": [PROGRAM, "healthcheck"]})
        yield at(*box, probe, "timeoutSeconds", value=1)
    yield at(*box, "args", value=["run", "--config", "/etc/openclaw-edge/edge.yaml"])
    yield at(*box, "command", value=["openclaw-edge"])
    yield at(*box, "env", value=[])
    yield at(*box, "resources", value={})
    yield at(*box, "image", value="registry.openclaw.example/openclaw-edge:latest")
    yield at(*box, "image", value="registry.openclaw.example:5000/openclaw-edge")
    yield at(*box, "volumeMounts", 0, "subPath", value="edge.yaml")
    yield at(*box, "volumeMounts", 0, "readOnly", value=None)
    yield at(*pod, "volumes", value=[])
    yield at(*pod, "initContainers", value=[])

    def configured(old, new):
        def change(objects):
            data = find(objects, "ConfigMap")["data"]
            if old not in data["edge.yaml"]:
                raise SystemExit(f"edge.yaml has no {old!r}")
            data["edge.yaml"] = data["edge.yaml"].replace(old, new)

        return ("edge.yaml", new), change

    yield configured("330s", "15s")
    yield configured("${env:NODE_IP}:9901", "0.0.0.0:9901")
    yield configured("/run/openclaw-edge/admin.sock", "/run/other.sock")

    def extra(one):
        return (one["kind"],), lambda objects: objects.append(one)

    yield extra({"kind": "ClusterRole", "metadata": {"name": "x"}})
    yield extra({"kind": "Namespace", "metadata": {"name": "x", "labels": {}}})


def unfound(path):
    objects = load(path)
    for where, change in mutations():
        changed = copy.deepcopy(objects)
        change(changed)
        yield from unless(list(edge(changed)), f"nothing is found wrong with {'.'.join(map(str, where))} changed")


# Comparing and converting


def same(left, right):
    """Pods are the same but for labels and the image's place."""

    def pods(path):
        spec = copy.deepcopy(find(load(path), "DaemonSet")["spec"])
        spec.pop("selector")
        spec["template"].pop("metadata")
        pod = spec["template"]["spec"]
        pod.pop("serviceAccountName")
        for key in ("containers", "initContainers", "volumes"):
            pod[key] = sorted(pod.get(key, []), key=lambda one: one["name"])
        for one in pod["containers"] + pod["initContainers"]:
            one["volumeMounts"] = sorted(one["volumeMounts"], key=lambda mount: mount["mountPath"])
        return spec

    def differences(one, other, at):
        if isinstance(one, dict) and isinstance(other, dict):
            for key in sorted({*one, *other}):
                yield from differences(one.get(key), other.get(key), f"{at}.{key}")
        elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            for index, pair in enumerate(zip(one, other)):
                yield from differences(*pair, f"{at}[{index}]")
        elif one != other:
            yield f"{at}: {one!r} and {other!r}"

    yield from differences(pods(left), pods(right), "spec")


def text(path, kind, key, out):
    one = find(load(path), kind)
    if kind == "ConfigMap":
        found = one["data"][key]
    else:
        [owner] = [each for each in one["spec"]["template"]["spec"]["initContainers"] if each["name"] == key]
        found = owner["command"][2]
    with open(out, "w", encoding="utf-8") as file:
        file.write(found)
    return []


# Groups of kubenix and what they are; a custom type says so itself.
GROUPS = {
    "namespaces": ("v1", "Namespace"),
    "configMaps": ("v1", "ConfigMap"),
    "serviceAccounts": ("v1", "ServiceAccount"),
    "services": ("v1", "Service"),
    "daemonSets": ("apps/v1", "DaemonSet"),
}
# Lists that kubenix takes as attribute sets, and the key it makes of an attribute's name.
NAMED = {"containers": "name", "initContainers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath"}


def kubenix(path):
    with open(path, encoding="utf-8") as file:
        module = json.load(file)["kubernetes"]
    groups = dict(GROUPS)
    for one in module.get("customTypes", {}).values():
        groups[one["attrName"]] = (f"{one['group']}/{one['version']}", one["kind"])
    objects = []
    for group, named in module["resources"].items():
        version, kind = groups[group]
        for name, one in named.items():
            metadata = {"name": name, **one.get("metadata", {})}
            objects.append({"apiVersion": version, "kind": kind, **listed(one), "metadata": metadata})
    yaml.safe_dump_all(objects, sys.stdout, sort_keys=False)
    return []


def listed(node, key=None):
    if isinstance(node, list):
        return [listed(one) for one in node]
    if not isinstance(node, dict):
        return node
    if key in NAMED:
        return [{NAMED[key]: name, **listed(one)} for name, one in node.items()]
    return {name: listed(one, name) for name, one in node.items()}


COMMANDS = {
    "schema": schema,
    "edge": lambda path: edge(load(path)),
    "monitored": lambda path: monitored(load(path)),
    "mutations": unfound,
    "same": same,
    "text": text,
    "kubenix": kubenix,
}


def main(command, *args):
    findings = list(COMMANDS[command](*args))
    for one in findings:
        print(one)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
