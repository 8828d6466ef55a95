"""The results as one Markdown table: the reference in its unit, the others as ratios to it."""

import os
import platform
import re
import statistics
import subprocess
from pathlib import Path

import sides
from support.agent import binary


def ratios(measure, values, reference):
    """Per repetition, so that what disturbed the machine meanwhile is in both numbers. Above 1 is better than the reference."""
    pairs = list(zip(values, reference))
    if measure.unit == "B/s":
        return [mine / its for mine, its in pairs if its]
    return [its / mine if mine else float("inf") for mine, its in pairs]


def cell(measure, values, reference):
    if not values or not reference:
        return "not supported"
    found = ratios(measure, values, reference)
    shown = f"{statistics.median(found):.2f}"
    if len(found) > 1:
        shown += f" ({min(found):.2f} … {max(found):.2f})"
    return f"{shown}, {measure.show(statistics.median(values))}"


def machine():
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M)[1]) // (1 << 20)
    load = os.getloadavg()
    return (
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), {memory} GiB, Linux {platform.release()}; "
        f"load average at the end {load[0]:.1f}, {load[1]:.1f}, {load[2]:.1f}"
    )


def versions(made):
    info = made[0].cluster.api.get("/version")["gitVersion"]
    node = made[0].cluster.api.get("/api/v1/nodes")["items"][0]["status"]["nodeInfo"]
    ours = subprocess.run([binary(), "version"], capture_output=True, text=True).stdout.strip().splitlines()[:1] or ["unknown"]
    return f"{ours[0]} ({binary().parent.name}/{binary().name}); Kubernetes {info}, {node['containerRuntimeVersion']}"


def render(results, made, quick):
    lines = [
        f"{machine()}; {versions(made)}." + (" A quick run: it shows that this works, not how fast it is." if quick else ""),
        "",
        "| measured | real kubelet | `process` : kubelet | `kubernetes` : kubelet | repetitions |",
        "| --- | --- | --- | --- | --- |",
    ]
    for measure, values in results.items():
        reference = values[sides.REFERENCE]
        shown = measure.show(statistics.median(reference)) if reference else "not supported"
        others = [cell(measure, values[name], reference) for name in (sides.PROCESS, sides.KUBERNETES)]
        lines.append(f"| {measure.title} | {shown} | {others[0]} | {others[1]} | {len(reference or [])} |")
    lines += [
        "",
        "Ratios are medians of the ratios of each repetition (smallest … largest), with the median of the side's own value behind; above 1 is",
        "better than the kubelet, for times and memory too.",
    ]
    return "\n".join(lines)
