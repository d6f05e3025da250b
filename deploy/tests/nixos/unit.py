"""The unit that the module makes, as a file for systemd-analyze; and what differs from Debian's.

    unit.py render SYSTEM.json > openclaw-edge.service
    unit.py same SYSTEM.json DEBIAN.service
"""

import json
import sys

# Lines of the two that are meant to differ: Debian's, the module's.
MEANT = {
    ("Unit", "Documentation"): (["file:///usr/share/doc/openclaw-edge/README.md"], []),
    ("Service", "ExecReload"): (["/bin/sh -c kill -HUP $MAINPID"], ["kill -HUP $MAINPID"]),
}


def main():
    service = json.load(open(sys.argv[2]))["systemd"]["services"]["openclaw-edge"]
    if sys.argv[1] == "render":
        for section, lines in sections(service).items():
            print(f"[{section}]")
            for key, values in lines.items():
                for value in values:
                    print(f"{key}={value}")
    else:
        same(sections(service), parsed(sys.argv[3]))


def sections(service):
    """As NixOS writes it: a list is a line for each of its elements."""
    unit = {
        "Description": service["description"],
        "After": " ".join(service["after"]),
        "Wants": " ".join(service["wants"]),
        "StartLimitIntervalSec": service["startLimitIntervalSec"],
    }
    install = {"WantedBy": " ".join(service["wantedBy"])}
    parts = {"Unit": unit, "Service": service["serviceConfig"], "Install": install}
    return {
        name: {key: list(map(text, values if isinstance(values, list) else [values])) for key, values in part.items()}
        for name, part in parts.items()
    }


def text(value):
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def parsed(path):
    found, section = {}, None
    for line in open(path):
        line = line.strip()
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            section.setdefault(key, []).append(value)
    return found


def same(ours, debian):
    wrong = []
    for section in sorted(ours.keys() | debian.keys()):
        a, b = debian.get(section, {}), ours.get(section, {})
        for key in sorted(a.keys() | b.keys()):
            pair = plain(a.get(key, [])), plain(b.get(key, []))
            if pair != MEANT.get((section, key), (pair[0], pair[0])):
                wrong.append(f"[{section}] {key}: deploy/systemd has {pair[0]}, deploy/nixos {pair[1]}")
    if wrong:
        sys.exit("\n".join(wrong))


def plain(values):
    """Commands without their folders and quotes."""
    def word(one):
        prefix = "-" if one.startswith("-") and "/" in one else ""
        one = one.lstrip("-").strip('"') if prefix else one.strip('"')
        is_program = one.startswith("/") and one.split("/")[-1] in ("openclaw-edge", "kill")
        return prefix + (one.split("/")[-1] if is_program and "/bin/" in one else one)

    return [" ".join(map(word, value.split(" "))) for value in values]


main()
