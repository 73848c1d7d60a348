# SPDX-License-Identifier: Apache-2.0
"""Machines for tests: real Debian roots, booted with systemd as PID 1 in systemd-nspawn. See README.md."""

from .machine import Machine  # noqa: F401
from .network import Network  # noqa: F401
