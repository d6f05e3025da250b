"""calls.py UNIT STRACE: fails where the trace has a system call that the unit's filter forbids.

An allow-list is resolved as systemd does it: `SystemCallFilter=` adds sets and names, with `~` it
takes them away again, and @default is always allowed.
"""

import re
import subprocess
import sys


def members(name):
    """The system calls of a set, sets within it resolved."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True
    ).stdout.split("\n")[1:]
    words = [line.strip() for line in listed if line.strip() and not line.strip().startswith("#")]
    return set().union(*(members(word) for word in words))


def allowed(unit):
    calls = members("@default")
    filters = re.findall(r"^SystemCallFilter=(.*)$", open(unit).read(), re.MULTILINE)
    if not filters:
        sys.exit(f"{unit} has no SystemCallFilter")
    for text in filters:
        named = set().union(*(members(word) for word in text.lstrip("~").split()))
        calls = calls - named if text.startswith("~") else calls | named
    return calls


def main():
    unit, trace = sys.argv[1:]
    used = set(re.findall(r"^\d+ +(\w+)\(", open(trace, errors="replace").read(), re.MULTILINE))
    for expected in ("accept4", "bind", "execve"):
        if expected not in used:
            sys.exit(f"the trace has no {expected}: is it one?")
    forbidden = sorted(used - allowed(unit))
    if forbidden:
        sys.exit(f"the unit forbids what the binary calls: {' '.join(forbidden)}")
    print(f"{len(used)} system calls, all allowed")


main()
