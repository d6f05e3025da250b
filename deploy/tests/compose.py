"""What must hold of deploy/compose, as Docker Compose resolves it to JSON.

    compose.py FILE               findings, one a line; with findings the exit code is 1
    compose.py --mutations FILE   that each finding can be made
"""

import copy
import json
import sys

PROGRAM = "/usr/bin/openclaw-edge"


def findings(project):
    edge, gateway = project["services"]["edge"], project["services"]["gateway"]
    for holds, finding in [*of_edge(edge), *of_gateway(gateway, project["networks"])]:
        if not holds:
            yield finding


def of_edge(edge):
    yield edge.get("network_mode") == "host" and not edge.get("ports"), "the edge is not on the VM's network"
    yield edge.get("entrypoint") == [PROGRAM], "another entry point"
    command = ["run", "--share-ports", "--config", "/etc/openclaw-edge/edge.yaml"]
    yield edge.get("command") == command, "another command"
    yield edge.get("user") == "65532:65532", "another user"
    yield edge.get("read_only") is True, "the root can be written"
    yield edge.get("cap_drop") == ["ALL"], "capabilities are kept"
    yield edge.get("cap_add") == ["NET_BIND_SERVICE"], "other capabilities"
    yield edge.get("security_opt") == ["no-new-privileges:true"], "privileges can be gained"
    yield not edge.get("privileged"), "privileged"
    yield not edge.get("depends_on"), "the edge waits for others"
    tmpfs = edge.get("tmpfs") or [""]
    yield tmpfs[0].startswith("/run/openclaw-edge:mode=1777,"), "no directory for the socket"
    yield len(edge.get("volumes", [])) == 2, "other mounts"
    mounts = {one["target"]: one for one in edge.get("volumes", [])}
    etc, state = mounts.get("/etc/openclaw-edge", {}), mounts.get("/var/lib/openclaw-edge", {})
    yield etc.get("source", "").endswith("/etc") and etc.get("read_only") is True, "the configuration can be written"
    yield state.get("source") == "/var/lib/openclaw-edge", "the state is not kept"
    for one in (etc, state):
        yield one.get("bind", {}).get("create_host_path") is False, "Docker would make a directory as root's"
    yield not any("docker.sock" in one.get("source", "") for one in mounts.values()), "Docker's socket is mounted"
    test = edge.get("healthcheck", {}).get("test")
    asked = ["CMD", PROGRAM, "healthcheck", "--socket", "/run/openclaw-edge/admin.sock"]
    yield test == asked, "another health check"
    nofile = edge.get("ulimits", {}).get("nofile", 0)
    yield (nofile if isinstance(nofile, int) else nofile.get("hard", 0)) >= 65536, "too few files"
    yield int(edge.get("mem_limit", 0)) >= 256 << 20, "no limit of memory, or too low a one"
    yield edge.get("stop_grace_period") == "25s", "no time to drain"
    yield edge.get("restart") == "unless-stopped", "not restarted"
    yield ":latest" not in edge["image"] and ":" in edge["image"].rsplit("/", 1)[-1], "no version"


def of_gateway(gateway, networks):
    ports = gateway.get("ports", [])
    yield {one["published"] for one in ports} == {"18789", "18790"}, "other ports"
    yield all(one.get("host_ip") == "127.0.0.1" for one in ports), "the gateway is open to the outside"
    config = networks["gateway"].get("ipam", {}).get("config", [{}])[0]
    yield "gateway" in config, "the edge's address is unknown to the gateway"


def unfound(project):
    def changed(service, key, value):
        copied = copy.deepcopy(project)
        if value is None:
            copied["services"][service].pop(key)
        else:
            copied["services"][service][key] = value
        return copied

    edge = project["services"]["edge"]
    kept = {"logging", "image", "networks", "pids_limit"}
    for key in sorted(set(edge) - kept):
        # A key that Compose has filled in with nothing says nothing.
        if edge[key] is not None:
            yield f"edge without {key}", changed("edge", key, None)
    yield "edge with ports", changed("edge", "ports", [{"target": 80}])
    yield "edge privileged", changed("edge", "privileged", True)
    yield "edge after the gateway", changed("edge", "depends_on", {"gateway": {}})
    yield "edge:latest", changed("edge", "image", "registry.openclaw.example/openclaw-edge:latest")
    yield "no tag", changed("edge", "image", "registry.openclaw.example:5000/openclaw-edge")
    yield "more capabilities", changed("edge", "cap_add", ["NET_BIND_SERVICE", "NET_ADMIN"])
    socket = {"source": "/var/run/docker.sock", "target": "/var/run/docker.sock"}
    yield "Docker's socket", changed("edge", "volumes", edge["volumes"] + [socket])
    made = [{**one, "bind": {"create_host_path": True}} for one in edge["volumes"]]
    yield "made directories", changed("edge", "volumes", made)
    opened = [{**one, "host_ip": "0.0.0.0"} for one in project["services"]["gateway"]["ports"]]
    yield "an open gateway", changed("gateway", "ports", opened)
    one = copy.deepcopy(project)
    one["networks"]["gateway"].pop("ipam")
    yield "any address", one


def main(*args):
    if args[0] == "--mutations":
        with open(args[1], encoding="utf-8") as file:
            missed = [what for what, project in unfound(json.load(file)) if not list(findings(project))]
        found = [f"nothing is found wrong: {what}" for what in missed]
    else:
        with open(args[0], encoding="utf-8") as file:
            found = list(findings(json.load(file)))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
