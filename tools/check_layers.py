#!/usr/bin/python3
"""Checks that includes keep to the layers: a folder may only use those below it, so that each can be understood and tested alone.

Prints file:line for every include that does not, and ends with status 1. Call it from anywhere; it takes no arguments.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Each folder and what it may include, besides itself. CMakeLists.txt links the libraries in the same way.
BELOW_PROVIDERS = ["common", "net", "kube"]
PROVIDERS = ["providers/kubernetes", "providers/process", "providers/simulated"]
MAY_USE = {
    "common": [],
    "net": ["common"],
    "kube": ["common", "net"],
    "csr": BELOW_PROVIDERS,
    "providers/port": BELOW_PROVIDERS,
    "providers/kubernetes": [*BELOW_PROVIDERS, "providers/port"],
    "providers/process": [*BELOW_PROVIDERS, "providers/port"],
    "providers/simulated": [*BELOW_PROVIDERS, "providers/port"],
    "kubelet_api": [*BELOW_PROVIDERS, "providers/port"],
    "vnode": [*BELOW_PROVIDERS, "csr", "providers/port", *PROVIDERS, "kubelet_api"],
    # Tests may look into everything; nothing may include tests.
    "tests": [*BELOW_PROVIDERS, "csr", "providers/port", *PROVIDERS, "kubelet_api", "vnode"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def layer_of(path):
    """The folder of the table that a path below the root belongs to; None for a path of no layer."""
    fits = [layer for layer in MAY_USE if path.startswith(layer + "/")]
    return max(fits, key=len) if fits else None


def problems_of(path):
    name = path.relative_to(ROOT).as_posix()
    here = layer_of(name)
    lines = path.read_text().splitlines()
    if path.suffix == ".h" and "#pragma once" not in lines:
        yield f"{name}:1: a header needs #pragma once"
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match[1]
        where = f"{name}:{number}: includes {target}"
        if here == "tests" and (path.parent / target).is_file():
            continue  # a helper next to its tests
        there = layer_of(target)
        if there is None or not (ROOT / target).is_file():
            yield f"{where}: no such file; write the path from the root of the repository"
        elif there != here and there not in MAY_USE[here]:
            yield f"{where}: {here} may use only {', '.join(MAY_USE[here]) or 'the standard library'}"
        elif there != here and here != "tests" and "/internal/" in target:
            yield f"{where}: that is internal to {there}"
        elif here != "tests" and "/testing/" in target and "/testing/" not in name:
            yield f"{where}: that is for tests only"


def main():
    problems = []
    files = sorted(file for layer in MAY_USE for pattern in ("*.h", "*.cc") for file in (ROOT / layer).rglob(pattern))
    for file in dict.fromkeys(files):
        problems += problems_of(file)
    # A new folder with code must be put into the table, or nothing would be checked in it.
    for folder in sorted(ROOT.iterdir()):
        if folder.is_dir() and not folder.name.startswith((".", "build")) and folder.name not in ("tests", "providers"):
            if folder.name not in MAY_USE and any(folder.rglob("*.cc")):
                problems.append(f"{folder.name}/:1: this folder has no layer; give it one in tools/check_layers.py")
    print("\n".join(problems) if problems else f"layers: {len(files)} files keep to them")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
