"""Network namespaces as hosts: one per cluster and one for the agent, on one bridge, with links that can be cut.

Nothing here has a route to the outside, so no test can reach beyond this machine. The root namespace owns the bridge's
address, so that a person's kubectl works as it is.
"""

import ipaddress
import json
import os
import subprocess

from . import state
from .errors import TestbedError
from .process import run

# Last byte of each member's address. The bridge itself has .1.
MEMBERS = {"local": 10, "remote": 20, "agent": 30}

_LINK_ACTIONS = ("cut", "restore", "slow", "drop-in", "drop-out")


class Network:
    """The network of one test bed. `members` are those of MEMBERS that it has."""

    def __init__(self, name, index):
        self.name = name
        self.prefix = f"{state.NETWORK}.{index}"
        self.bridge = f"kgtb{index}"

    def namespace(self, member):
        return f"{self.name}-{member}"

    def address(self, member):
        return f"{self.prefix}.{MEMBERS[member]}"

    def root_address(self):
        return f"{self.prefix}.1"

    def enter(self, member):
        # nsenter and not `ip netns exec`: that one remounts /sys and the kubelet no longer finds its cgroups.
        return ["nsenter", f"--net=/run/netns/{self.namespace(member)}", "--"]

    def _host_end(self, member):
        return f"{self.bridge}{member[0]}"  # at most 15 bytes: kgtb250l

    def create(self, members):
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("addr", "add", f"{self.root_address()}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        for member in members:
            namespace, end = self.namespace(member), self._host_end(member)
            _ip("netns", "add", namespace)
            _ip("link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("link", "set", end, "master", self.bridge, "up")
            _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", namespace, "addr", "add", f"{self.address(member)}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "eth0", "up")

    def link(self, action, member):
        """cut: the cable is pulled. drop-in, drop-out: one direction is lost, silently. slow: both directions crawl.
        restore: undoes all of them."""
        if action not in _LINK_ACTIONS:
            raise TestbedError(f"no link action '{action}'", "one of: " + ", ".join(_LINK_ACTIONS))
        if member not in MEMBERS:
            raise TestbedError(f"no link '{member}'", "one of: " + ", ".join(MEMBERS))
        end = self._host_end(member)
        if action == "cut":
            _ip("link", "set", end, "down")
        elif action in ("drop-in", "drop-out"):
            hook = "input" if action == "drop-in" else "output"
            match = "iifname" if hook == "input" else "oifname"
            self._nft(
                member,
                f"add table inet testbed\n"
                f"add chain inet testbed {hook} {{ type filter hook {hook} priority 0; }}\n"
                f"add rule inet testbed {hook} {match} eth0 drop\n",
            )
        elif action == "slow":
            for command in (["tc"], self.enter(member) + ["tc"]):
                device = end if command == ["tc"] else "eth0"
                delay = subprocess.run(
                    command + ["qdisc", "replace", "dev", device, "root", "netem", "delay", "300ms"], capture_output=True
                )
                if delay.returncode != 0:  # a kernel without netem: a narrow pipe delays just as well
                    run(
                        command + ["qdisc", "replace", "dev", device, "root", "tbf", "rate", "64kbit", "burst", "1600", "latency", "2s"],
                        f"{device} cannot be slowed down",
                    )
        else:
            _ip("link", "set", end, "up")
            subprocess.run(["tc", "qdisc", "del", "dev", end, "root"], capture_output=True)
            subprocess.run(self.enter(member) + ["tc", "qdisc", "del", "dev", "eth0", "root"], capture_output=True)
            self._nft(member, "add table inet testbed\ndelete table inet testbed\n")

    def _nft(self, member, rules):
        run(self.enter(member) + ["nft", "-f", "-"], "nft refuses the rule", input=rules)

    def processes(self):
        """Pids of everything that runs in one of our namespaces."""
        pids = []
        for member in MEMBERS:
            if os.path.exists(f"/run/netns/{self.namespace(member)}"):
                listed = subprocess.run(["ip", "netns", "pids", self.namespace(member)], capture_output=True, text=True)
                pids += [int(pid) for pid in listed.stdout.split()]
        return pids

    def remove(self):
        """Removes what is there of it; fine to call twice, or after a creation that stopped half-way."""
        for member in MEMBERS:
            _ip_if_there("link", "del", self._host_end(member))
            if os.path.exists(f"/run/netns/{self.namespace(member)}"):
                _ip("netns", "del", self.namespace(member))
        _ip_if_there("link", "del", self.bridge)


def _ip(*arguments):
    return run(["ip", *arguments], f"ip {' '.join(arguments)}")


def _ip_if_there(*arguments):
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0 and "Cannot find device" not in done.stderr:
        raise TestbedError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def addresses_in_use():
    """Networks that this machine has an address in or a route to, without the default routes."""
    listed = subprocess.run(["ip", "-j", "-4", "route", "show", "table", "all"], capture_output=True, text=True)
    try:
        routes = json.loads(listed.stdout or "[]")
    except ValueError:
        return []
    networks = []
    for route in routes:
        try:
            network = ipaddress.ip_network(route.get("dst", ""), strict=False)
        except ValueError:
            continue
        if network.prefixlen > 4:
            networks.append(network)
    return networks


def host_address():
    """An address of this machine that is not loopback: kube-apiserver refuses to talk to a kubelet at 127.0.0.1."""
    listed = json.loads(run(["ip", "-j", "-4", "addr", "show", "scope", "global"], "ip addr"))
    for interface in listed:
        for address in interface.get("addr_info", []):
            if "local" in address and not interface.get("ifname", "").startswith("kgtb"):
                return address["local"]
    raise TestbedError("this machine has no IPv4 address but loopback's", "connect it to a network, or run as root for namespaces")


def unavailable_reason():
    """None when this process may create namespaces and links; else one line saying why not."""
    if os.getuid() != 0:
        return "not root"
    probe = subprocess.run(
        [
            "unshare",
            "--net",
            "--",
            "sh",
            "-c",
            "ip link add kgtbprobe type bridge && ip link add kgtbprobea type veth peer name kgtbprobeb",
        ],
        capture_output=True,
        text=True,
    )
    if probe.returncode != 0:
        return "network namespaces, bridges or veth pairs cannot be made: " + (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
    return None
