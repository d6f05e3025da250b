#!/usr/bin/env python3
"""The image from its parts: one layer, an OCI layout, and the same as a file that every engine loads.

Nothing but Python's own library, nothing from the machine: the same parts give the same bytes.
build.sh calls it; takes no root, as owners and the file capability are written and never set.
"""

import argparse
import hashlib
import io
import json
import pathlib
import struct
import sys
import tarfile
import time
import zlib

NAME = "registry.openclaw.example/openclaw-edge"
USER = 65532
# linux/capability.h: revision 2 with the effective bit; permitted 1 << 10 (CAP_NET_BIND_SERVICE).
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)

ETC = pathlib.Path(__file__).parent / "etc"


def main():
    options = arguments()
    binary = options.binary.read_bytes()
    refuse_dynamic(binary)
    epoch = options.epoch
    layer = layer_of(binary, options, epoch)
    packed = gzipped(layer)
    store = Blobs()
    config = store.add_json(config_of(layer, options), "application/vnd.oci.image.config.v1+json")
    layers = [store.add(packed, "application/vnd.oci.image.layer.v1.tar+gzip")]
    image = store.add_json(
        {**manifest(config, layers), "annotations": labels(options)},
        "application/vnd.oci.image.manifest.v1+json",
    )
    reference = f"{NAME}:{options.version}"
    image |= {
        "platform": {"architecture": options.architecture, "os": "linux"},
        # The first is read by skopeo and podman, the second by containerd.
        "annotations": {
            "org.opencontainers.image.ref.name": options.version,
            "io.containerd.image.name": reference,
        },
    }
    archive = options.out / f"openclaw-edge-{options.version}.oci.tar"
    archive.write_bytes(archive_of(store, image, config, layers, reference, epoch))
    referrer = store.referrer(options.sbom.read_bytes(), image)
    write_layout(options.out / "oci", {**store.layout([image, referrer]), **store.blobs()})
    compressed = sum(one["size"] for one in [config, *layers])
    print(f"image       {reference}")
    print(f"digest      {image['digest']}")
    print(f"compressed  {compressed} bytes")
    print(f"archive     {archive}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("binary", "roots", "sbom", "license", "out"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--revision", required=True)
    parser.add_argument("--architecture", choices=["amd64", "arm64"], required=True)
    parser.add_argument("--epoch", type=int, required=True, help="seconds since 1970 of every file")
    return parser.parse_args()


def refuse_dynamic(elf):
    """One that names an interpreter (PT_INTERP) would find none in the image."""
    if elf[:6] != b"\x7fELF\x02\x01":
        sys.exit("image: the binary is no little-endian ELF file of 64 bits")
    start, entry, count = struct.unpack_from("<Q", elf, 32)[0], *struct.unpack_from("<HH", elf, 54)
    kinds = [struct.unpack_from("<I", elf, start + n * entry)[0] for n in range(count)]
    if 3 in kinds:
        sys.exit("image: the binary is not static: it needs an interpreter and libraries")


def layer_of(binary, options, epoch):
    """A tar of everything in the image, with no shell and nothing else to run."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(path, content=None, mode=None, owner=0, xattr=None):
            info = tarfile.TarInfo(path)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.mode = mode or (0o755 if content is None else 0o644)
            info.uid = info.gid = owner
            info.mtime = epoch
            if xattr:
                info.pax_headers = {"SCHILY.xattr.security.capability": xattr.decode("ascii")}
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))

        # Mount points, for engines that make none in a read-only root.
        for path in ("dev", "proc", "sys", "etc"):
            add(path)
        add("etc/group", (ETC / "group").read_bytes())
        add("etc/nsswitch.conf", (ETC / "nsswitch.conf").read_bytes())
        add("etc/openclaw-edge")
        add("etc/passwd", (ETC / "passwd").read_bytes())
        for path in ("etc/ssl", "etc/ssl/certs"):
            add(path)
        add("etc/ssl/certs/ca-certificates.crt", options.roots.read_bytes())
        add("run")
        add("run/openclaw-edge", mode=0o700, owner=USER)
        for path in ("usr", "usr/bin"):
            add(path)
        add("usr/bin/openclaw-edge", binary, mode=0o755, xattr=CAPABILITY)
        for path in ("usr/share", "usr/share/doc", "usr/share/doc/openclaw-edge"):
            add(path)
        add("usr/share/doc/openclaw-edge/LICENSE", options.license.read_bytes())
        add("usr/share/doc/openclaw-edge/sbom.cdx.json", options.sbom.read_bytes())
        for path in ("var", "var/lib"):
            add(path)
        add("var/lib/openclaw-edge", mode=0o700, owner=USER)
    return out.getvalue()


def gzipped(data):
    """Without time and name in its head."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def config_of(layer, options):
    return {
        "architecture": options.architecture,
        "os": "linux",
        "created": timestamp(options.epoch),
        "config": {
            "User": f"{USER}:{USER}",
            "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": ["/usr/bin/openclaw-edge"],
            "Cmd": ["run"],
            "WorkingDir": "/",
            "Labels": labels(options),
            "StopSignal": "SIGTERM",
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created": timestamp(options.epoch), "created_by": "deploy/image/build.sh"}],
    }


def labels(options):
    prefix = "org.opencontainers.image."
    return {
        prefix + "title": "openclaw-edge",
        prefix + "description": "Edge reverse proxy and TLS terminator",
        prefix + "licenses": "Apache-2.0",
        prefix + "version": options.version,
        prefix + "revision": options.revision,
        prefix + "created": timestamp(options.epoch),
    }


def timestamp(epoch):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def manifest(config, layers):
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": layers,
    }


class Blobs:
    """Content by its digest."""

    def __init__(self):
        self.content = {}

    def add(self, data, media_type):
        name = digest(data)
        self.content[name] = data
        return {"mediaType": media_type, "digest": name, "size": len(data)}

    def add_json(self, value, media_type):
        return self.add(as_json(value), media_type)

    def referrer(self, sbom, image):
        """The SBOM as an artifact that names the image as its subject (OCI 1.1)."""
        kind = "application/vnd.cyclonedx+json"
        subject = {key: image[key] for key in ("mediaType", "digest", "size")}
        empty = self.add(b"{}", "application/vnd.oci.empty.v1+json")
        value = manifest(empty, [self.add(sbom, kind)]) | {"artifactType": kind, "subject": subject}
        return self.add_json(value, value["mediaType"]) | {"artifactType": kind}

    def blobs(self):
        return {f"blobs/{name.replace(':', '/')}": data for name, data in self.content.items()}

    def layout(self, manifests):
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        }
        return {
            "oci-layout": as_json({"imageLayoutVersion": "1.0.0"}),
            "index.json": as_json(index),
        }


def archive_of(store, image, config, layers, reference, epoch):
    """The layout as a tar, and manifest.json, which is what `docker load` reads."""
    path = lambda blob: f"blobs/{blob['digest'].replace(':', '/')}"
    for_docker = [
        {"Config": path(config), "RepoTags": [reference], "Layers": [path(one) for one in layers]}
    ]
    files = store.layout([image]) | {"manifest.json": as_json(for_docker)} | store.blobs()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o644, epoch
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def write_layout(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def as_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


main()
