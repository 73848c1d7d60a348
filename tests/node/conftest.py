# SPDX-License-Identifier: Apache-2.0
"""Machines with a node from its .deb, in states that several modules need."""

import pytest

from fidelity import dpkg, ready, start
from machine.machine import Machine
from machine.root import debian


@pytest.fixture
def installed(machine_factory, node_packages):
    """installed(variant): a machine with the package and without a start."""
    def make(variant="4.3.12", **options):
        m = machine_factory(**options)
        dpkg(m, node_packages, variant)
        return m
    return make


@pytest.fixture
def started(installed):
    def make(variant="4.3.12", **options):
        m = installed(variant, **options)
        start(m)
        ready(m)
        return m
    return make


@pytest.fixture(scope="session")
def node(node_packages):
    """4.3.12, ready, for tests that leave it as it is."""
    with Machine(debian()) as m:
        dpkg(m, node_packages, "4.3.12")
        start(m)
        ready(m)
        yield m


@pytest.fixture(scope="session")
def modern(node_packages):
    """4.4.11, likewise."""
    with Machine(debian()) as m:
        dpkg(m, node_packages, "4.4.11")
        start(m)
        ready(m)
        yield m
