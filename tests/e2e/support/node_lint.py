"""What readers of Nodes trip over: OSMO's listener and service, KAI, the scheduler, kubectl. A Node that passes crashes none of them."""

import ipaddress
import re

# OSMO treats decimal and binary units alike and knows none above Ti; the API server writes 1024Ti as 1Pi.
QUANTITY = re.compile(r"^[0-9]+(\.[0-9]+)?(|m|K|M|G|T|Ki|Mi|Gi|Ti)$")
CPU = re.compile(r"^[0-9]+m?$")
RESOURCES = ("cpu", "memory", "ephemeral-storage", "pods")


def faults(node, port=10250):
    """Everything that is wrong with it, as sentences; empty for a good one."""
    found = []
    name = node["metadata"]["name"]
    labels = node["metadata"].get("labels") or {}
    status = node.get("status", {})

    def expect(good, fault):
        if not good:
            found.append(fault)

    # Some readers go by this label, pods by the name: usage is zero where they differ.
    expect(labels.get("kubernetes.io/hostname") == name, f"label kubernetes.io/hostname is {labels.get('kubernetes.io/hostname')}")
    for key, allowed in (("kubernetes.io/os", ("linux",)), ("kubernetes.io/arch", ("amd64", "arm64"))):
        expect(labels.get(key) in allowed, f"label {key} is {labels.get(key)}")
    expect(node["spec"].get("providerID"), "no providerID")

    conditions = {entry["type"]: entry for entry in status.get("conditions") or []}
    expect(conditions, "no conditions")
    for type_, wanted in {
        "Ready": "True",
        "MemoryPressure": "False",
        "DiskPressure": "False",
        "PIDPressure": "False",
        # KAI reads the condition even where the taint is tolerated.
        "NetworkUnavailable": "False",
    }.items():
        expect(conditions.get(type_, {}).get("status") == wanted, f"condition {type_} is {conditions.get(type_)}")
    for type_, entry in conditions.items():
        for key in ("lastHeartbeatTime", "lastTransitionTime", "reason", "message"):
            expect(entry.get(key), f"condition {type_} has no {key}")

    capacity, allocatable = status.get("capacity") or {}, status.get("allocatable") or {}
    for what, resources in (("capacity", capacity), ("allocatable", allocatable)):
        for resource in RESOURCES:
            expect(resource in resources, f"{what} has no {resource}")
        for resource, quantity in resources.items():
            expect(QUANTITY.match(quantity), f"{what} {resource} is {quantity}")
        expect(CPU.match(resources.get("cpu", "")), f"{what} cpu is {resources.get('cpu')}")
        expect(int(resources.get("pods", "0")) > 0, f"{what} has no room for pods")
        expect(re.match(r"^[0-9]+$", resources.get("nvidia.com/gpu", "0")), f"{what} nvidia.com/gpu is {resources.get('nvidia.com/gpu')}")
    expect(capacity.get("nvidia.com/gpu") == allocatable.get("nvidia.com/gpu"), "GPUs of capacity and allocatable differ")

    # A Hostname comes first for API servers by default, and nothing resolves k8s.gpu.
    addresses = status.get("addresses") or []
    expect({entry["type"] for entry in addresses} == {"InternalIP"}, f"addresses are {addresses}")
    for entry in addresses:
        expect(not ipaddress.ip_address(entry["address"]).is_loopback, f"address {entry} cannot be reached")
    expect(status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port") == port, f"endpoint is {status.get('daemonEndpoints')}")

    info = status.get("nodeInfo") or {}
    for key in ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion"):
        expect(info.get(key), f"nodeInfo has no {key}")
    expect(
        re.match(r"^v1\.[0-9]+\.[0-9]+(\+[0-9A-Za-z.-]+)?$", info.get("kubeletVersion", "")),
        f"kubeletVersion is {info.get('kubeletVersion')}",
    )
    expect(re.match(r"^[a-z0-9]+://\S+$", info.get("containerRuntimeVersion", "")), f"runtime is {info.get('containerRuntimeVersion')}")
    expect(info.get("architecture") == labels.get("kubernetes.io/arch"), "architecture and label differ")
    return found
