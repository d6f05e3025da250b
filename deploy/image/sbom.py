#!/usr/bin/env python3
"""cargo-cyclonedx's SBOM made the same on every machine, and whole.

Reads it from stdin and prints it without folders, random numbers and the time of day; adds what is in
the image and comes from no crate. Its folder is replaced by the repository's name.
  sbom.py FOLDER EPOCH NAME=VERSION=PURL...
"""

import json
import sys
import time


def main():
    folder, epoch, *others = sys.argv[1:]
    bom = json.loads(sys.stdin.read().replace(f"file://{folder}", "file:///openclaw-edge"))
    bom.pop("serialNumber", None)
    bom["version"] = 1
    about = bom["metadata"]
    about["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(epoch)))
    about["component"]["name"] = "openclaw-edge"
    top = about["component"]["bom-ref"]
    # Their names are those of other crates in the registry, whose faults are not theirs.
    for one in [about["component"], *about["component"]["components"], *bom["components"]]:
        if one["bom-ref"].startswith("path+"):
            one.pop("purl", None)
    added = [component(*one.split("=", 2)) for one in others]
    bom["components"] = sorted(bom["components"] + added, key=lambda one: one["bom-ref"])
    for one in bom["dependencies"]:
        if one["ref"] == top:
            one["dependsOn"] = sorted(one.get("dependsOn", []) + [new["bom-ref"] for new in added])
    bom["dependencies"].sort(key=lambda one: one["ref"])
    text = json.dumps(bom, indent=1, sort_keys=True)
    if folder in text:
        sys.exit(f"sbom: {folder} is still in it")
    print(text)


def component(name, version, purl):
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


main()
