# SPDX-License-Identifier: Apache-2.0
"""The bus layer against a real PID 1: jobs, transient units, reloads, a system bus that goes away."""


def test_bus_layer_talks_to_systemd(machine, machine_test_program):
    machine.push(machine_test_program("test-machine-bus"), "/usr/local/bin")
    result = machine.run("test-machine-bus", check=False, timeout=180)
    assert result.returncode == 0, result.stdout + result.stderr


def test_bus_layer_notices_a_shutdown(machine, machine_test_program):
    machine.push(machine_test_program("test-machine-bus"), "/usr/local/bin")
    result = machine.run(["test-machine-bus", "going-down"], check=False, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
