"""What is shipped to be applied: the API servers of both ends of the supported range accept every object of it, field by field."""

import pytest
import yaml

from support.access import MANIFESTS, TENANT
from support.clusters import Cluster


def is_applied(path):
    """eks/aws-auth.yaml is an entry to put into an existing object."""
    return all(isinstance(object_, dict) for object_ in yaml.safe_load_all(path.read_text()))


FILES = sorted(str(path.relative_to(MANIFESTS)) for path in MANIFESTS.rglob("*.yaml") if is_applied(path))


@pytest.mark.parametrize("file", FILES)
def test_the_newest_minor_accepts_it(bed, file):
    accept(bed, file)


@pytest.mark.oldest_minor
@pytest.mark.parametrize("file", FILES)
def test_the_oldest_minor_accepts_it(oldest_bed, file):
    accept(oldest_bed, file)


def accept(bed, file):
    cluster = Cluster(bed.local, "default")
    cluster.create_namespace(TENANT)
    shown = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", MANIFESTS / file)
    assert shown.count("(server dry run)") >= 1
