"""Real control planes and a real remote node on one machine, for tests and for trying things out. See README.md."""

from .bed import Testbed, remote_unavailable_reason
from .errors import TestbedError
from .signer import AppServingSigner

__all__ = ["AppServingSigner", "Testbed", "TestbedError", "remote_unavailable_reason"]
