#!/usr/bin/env python3
"""What must hold of the image, read with Python's own library from what build.sh has made.

  image.py layout FOLDER            prints what is wrong with the layout, and how big the image is
  image.py bundle ROOTFS CONFIG OUT MOUNT... -- ARGUMENT...   writes the container for runc
"""

import gzip
import hashlib
import io
import json
import pathlib
import struct
import sys
import tarfile

LIMIT = 15_000_000
USER = 65532
PROGRAM = "usr/bin/openclaw-edge"
OWN = {"run/openclaw-edge": 0o700, "var/lib/openclaw-edge": 0o700}
FILES = {
    "etc/group",
    "etc/nsswitch.conf",
    "etc/passwd",
    "etc/ssl/certs/ca-certificates.crt",
    PROGRAM,
    "usr/share/doc/openclaw-edge/LICENSE",
    "usr/share/doc/openclaw-edge/sbom.cdx.json",
}


def layout(folder):
    folder = pathlib.Path(folder)
    index = json.loads((folder / "index.json").read_bytes())
    image, artifact = index["manifests"]
    manifest = blob(folder, image)
    [layer] = manifest["layers"]
    config = blob(folder, manifest["config"])
    tree(gzip.decompress(raw(folder, layer)), config)
    said = config["config"]
    expect("user", said["User"], f"{USER}:{USER}")
    expect("entry point", said["Entrypoint"], [f"/{PROGRAM}"])
    expect("labels", manifest["annotations"], said["Labels"])
    referrer(folder, image, artifact)
    size = layer["size"] + manifest["config"]["size"]
    expect(f"{size} bytes are at most {LIMIT}", size <= LIMIT, True)
    print(size)


def tree(layer, config):
    [identifier] = config["rootfs"]["diff_ids"]
    expect("diff_id", identifier, "sha256:" + hashlib.sha256(layer).hexdigest())
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        members = tar.getmembers()
        files = {one.name for one in members if not one.isdir()}
        expect("files", files, FILES)
        expect("regular files only", all(one.isreg() for one in members if not one.isdir()), True)
        expect("programs", {one.name for one in members if one.isreg() and one.mode & 0o111}, {PROGRAM})
        for one in members:
            owner, mode = (USER, OWN[one.name]) if one.name in OWN else (0, one.mode & ~0o022)
            expect(f"owner of {one.name}", (one.uid, one.gid), (owner, owner))
            expect(f"mode of {one.name}", one.mode, mode)
        program = tar.getmember(PROGRAM)
        capability = program.pax_headers["SCHILY.xattr.security.capability"].encode()
        # Effective and permitted, number 10, nothing inheritable.
        expect("capability", struct.unpack("<5I", capability), (0x02000001, 0x400, 0, 0, 0))
        others = [one.name for one in members if one.pax_headers and one.name != PROGRAM]
        expect("other capabilities", others, [])
        roots = tar.extractfile("etc/ssl/certs/ca-certificates.crt").read()
        expect("over 100 authorities", roots.count(b"BEGIN CERTIFICATE") > 100, True)


def referrer(folder, image, artifact):
    """The SBOM, which names the image by its digest, and knows what matters most."""
    manifest = blob(folder, artifact)
    expect("subject", manifest["subject"]["digest"], image["digest"])
    [layer] = manifest["layers"]
    bom = blob(folder, layer)
    expect("format", (bom["bomFormat"], bom["metadata"]["component"]["name"]), ("CycloneDX", "openclaw-edge"))
    names = {one["name"] for one in bom["components"]}
    expect("components", {"rustls", "aws-lc-sys", "tokio", "hyper", "acme", "glibc", "certifi"} - names, set())
    # Of tests and benches only.
    expect("not in the binary", names & {"proptest", "benches", "tonic"}, set())


def raw(folder, descriptor):
    data = (folder / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
    expect("size", len(data), descriptor["size"])
    expect("digest", "sha256:" + hashlib.sha256(data).hexdigest(), descriptor["digest"])
    return data


def blob(folder, descriptor):
    return json.loads(raw(folder, descriptor))


def bundle(rootfs, config, out, *mounts):
    """A container as kubelet's runtime makes one of the DaemonSet's pod: the image's user and command,
    the node's network, a read-only root, one capability in the bounding and permitted sets and none
    that is inherited, no new privileges. MOUNTS: SOURCE:TARGET[:ro]; the rest of the command line
    after `--`."""
    mounts, arguments = list(mounts), []
    if "--" in mounts:
        at = mounts.index("--")
        mounts, arguments = mounts[:at], mounts[at + 1 :]
    said = json.loads(pathlib.Path(config).read_bytes())["config"]
    uid, gid = (int(one) for one in said["User"].split(":"))
    capability = ["CAP_NET_BIND_SERVICE"]
    spec = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": uid, "gid": gid},
            "args": said["Entrypoint"] + (arguments or said["Cmd"]),
            "env": said["Env"],
            "cwd": said["WorkingDir"],
            # What containerd sets for a pod: bounding, effective, permitted; not ambient.
            "capabilities": {"bounding": capability, "effective": capability, "permitted": capability},
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 9000, "hard": 9000}],
        },
        "root": {"path": rootfs, "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            *(mount(one) for one in mounts),
        ],
        # No network namespace: the one it is started in.
        "linux": {"namespaces": [{"type": one} for one in ("mount", "pid", "ipc", "uts")]},
    }
    pathlib.Path(out).write_text(json.dumps(spec))


def mount(text):
    source, target, *flags = text.split(":")
    return {"destination": target, "type": "bind", "source": source, "options": ["bind", "nosuid", "nodev", *flags]}


def expect(what, have, want):
    if have != want:
        sys.exit(f"{what}: {have} and not {want}")


{"layout": layout, "bundle": bundle}[sys.argv[1]](*sys.argv[2:])
