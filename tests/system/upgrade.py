# SPDX-License-Identifier: Apache-2.0
"""What the system tests say again and again: start an upgrade, read its journal, look at the node from outside.

Nothing in here asks the program under test how things are: files are read by find(1) and sha256sum(1), packages by
dpkg-query or rpm, units by systemctl, messages by mosquitto's clients. The node may be of any kind: paths are m.etc, m.data,
m.log, m.root_dir and m.bin_dir.
"""

import json

import jsonschema

from machine.cache import TOP

STEPS = ("inspect", "stage", "drain", "refresh", "recheck", "stop", "backup", "remove", "install", "restore", "start", "verify", "undrain",
         "watch", "archive", "commit")
STATE = "/var/lib/emqx-upgrade"
PACKAGES = f"{STATE}/packages"
DONE, INTERRUPTED, USAGE, REFUSED, ROLLED_BACK, STUCK = range(6)

#: What a node writes by itself whenever it runs.
RUNTIME = ("mnesia", "configs", "emqx_erl_pipes")


def validator(name):
    """Of a schema, "status" and the like, as it is installed, and with no field beside those that it names."""
    schemas = {path.name.split(".")[0]: json.loads(path.read_text()) for path in (TOP / "schema").glob("*.json")}

    def close(schema):
        if isinstance(schema, dict):
            if "properties" in schema:
                schema.setdefault("additionalProperties", False)
            for value in schema.values():
                close(value)
        elif isinstance(schema, list):
            for value in schema:
                close(value)
    close(schemas)
    store = {schema["$id"]: schema for schema in schemas.values()}
    return jsonschema.Draft202012Validator(schemas[name], resolver=jsonschema.RefResolver("", schemas[name], store))


def start(m, version="4.4.0", timeout=240, block=True):
    """systemctl start emqx-upgrade@VERSION; the result's returncode is systemctl's."""
    argv = ["systemctl", "start", f"emqx-upgrade@{version}.service"]
    if not block:
        argv.insert(1, "--no-block")
    return m.run(argv, check=False, timeout=timeout)


def exit_status(m, version="4.4.0"):
    """Exit status of the conductor's last run."""
    return int(m.unit(f"emqx-upgrade@{version}.service")["ExecMainStatus"])


def wait_for_end(m, timeout=180):
    """Until no upgrade is open and none runs: for upgrades that go on by themselves after an interruption."""
    def over():
        listed = m.run("systemctl list-jobs --no-legend 'emqx-upgrade*'; "
                       "systemctl list-units --no-legend --state=activating,deactivating 'emqx-upgrade@*' "
                       "'emqx-upgrade-rollback@*'", check=False).stdout
        return not m.exists(f"{STATE}/transaction") and not listed.strip()
    m.wait_until(over, timeout=timeout)


def events(m, name=None):
    """Journal entries of upgrades, oldest first; of one event where name is given."""
    entries = [e for e in m.journal() if "EMQX_UPGRADE_EVENT" in e]
    return [e for e in entries if name is None or e["EMQX_UPGRADE_EVENT"] == name]


def event_names(m):
    return [e["EMQX_UPGRADE_EVENT"] for e in events(m)]


def package_state(m, name="emqx"):
    """(state, version) as the kind's manager has it; None where there is no such package.

    deb: ('install ok installed', '4.4.0'); rpm: ('installed', '4.4.0'); zip, where nobody keeps a record: ('unpacked',
    '4.4.0'), by the program's own variables."""
    if m.kind == "deb":
        out = m.run(["dpkg-query", "-W", "-f", "${Status}|${Version}", name], check=False).stdout
        return tuple(out.split("|")) if out else None
    if m.kind == "rpm":
        asked = m.run(["rpm", "-q", "--qf", "%{VERSION}\\n", name], check=False)
        return ("installed", "+".join(asked.stdout.split())) if asked.returncode == 0 else None
    argv = ["sed", "-n", 's/^REL_VSN="\\(.*\\)"$/\\1/p', f"{m.root_dir}/releases/emqx_vars"]
    found = m.run(argv, check=False).stdout.split()
    return ("unpacked", found[-1]) if found else None


INSTALLED = {"deb": "install ok installed", "rpm": "installed", "zip": "unpacked"}


def tree(m, path, without=RUNTIME):
    """{relative path: (type, mode, owner, group, mtime, size, link target, sha256)} of everything below path."""
    listing = m.run(["find", path, "-mindepth", "1", "-printf", r"%P\0%y\0%m\0%u\0%g\0%T@\0%s\0%l\0"]).stdout
    fields = listing.split("\0")[:-1]
    entries = {}
    for i in range(0, len(fields), 8):
        name, kind, mode, user, group, mtime, size, target = fields[i:i + 8]
        if name.split("/")[0] in without:
            continue
        entries[name] = [kind, mode, user, group, mtime if kind != "d" else "", size if kind == "f" else "", target, ""]
    sums = m.run(f"cd {path} && find . -type f -print0 | xargs -0 -r sha256sum -z").stdout
    for line in sums.split("\0"):
        digest, _, name = line.partition("  ")
        if name[2:] in entries:
            entries[name[2:]][7] = digest
    return {name: tuple(values) for name, values in entries.items()}


def backup_trees(m, backup):
    """A directory with the trees of a backup: its own, or what GNU tar makes of its archive."""
    path = f"{STATE}/backups/{backup}"
    if m.exists(f"{path}/tree"):
        return f"{path}/tree"
    out = f"/var/tmp/backup-{backup}"
    m.run(f"cd {path} && sha256sum --quiet -c backup.tar.zst.sha256 && rm -rf {out} && mkdir {out} && "
          f"tar --zstd --acls --xattrs --xattrs-include='*' -xpf backup.tar.zst -C {out}")
    return out


def node_files(m):
    return {"etc": tree(m, m.etc), "data": tree(m, m.data)}


def running_version(m):
    """What the node itself says, once it says that it is started."""
    out = m.run(f"su - emqx -s /bin/bash -c '{m.bin_dir}/emqx_ctl status'", check=False).stdout
    words = out.split()
    return words[2] if len(words) >= 5 and words[-1] == "started" else None


def wait_until_it_serves(m):
    """The node, where somebody else than an upgrade has started it: systemd says so before its plugins are loaded."""
    m.wait_until(lambda: running_version(m) and len(retained(m, m.n_retained, timeout=1)) == m.n_retained, timeout=60)


def retained(m, n, timeout=10):
    """{topic: payload} of the n retained messages that a fresh client gets."""
    out = m.run(["mosquitto_sub", "-t", "#", "-v", "-C", str(n), "-W", str(timeout)], check=False, timeout=timeout + 20).stdout
    return dict(line.split(" ", 1) for line in out.splitlines())


def status(m):
    return json.loads(m.run(["emqx-upgrade", "status", "--json"]).stdout)


def assert_nothing_is_left(m):
    """No hold, no open transaction, no drop-in for one start, no step unit, no temporary file."""
    assert not m.exists(f"{STATE}/hold")
    assert not m.exists(f"{STATE}/transaction")
    # Its /run is a tmpfs that this host does not see.
    assert m.run("ls /run/systemd/system/emqx.service.d/50-emqx-upgrade-start.conf", check=False).returncode != 0
    assert m.run("systemctl list-units --all --no-legend 'emqx-upgrade-step-*'").stdout.strip() == ""
    assert m.run(f"find {STATE} /run/emqx-upgrade {m.etc} -name '.*.tmp' -o -name 'judge*'").stdout.strip() == ""


def assert_node_is(m, version):
    """Package, unit, node and MQTT all agree on version, and nothing of the upgrade is left."""
    assert package_state(m) == (INSTALLED[m.kind], version)
    unit = m.unit("emqx.service")
    assert (unit["ActiveState"], unit["SubState"], unit["NRestarts"]) == ("active", "running", "0")
    assert unit["UnitFileState"] == "enabled"
    assert running_version(m) == version
    assert m.run(["mosquitto_pub", "-q", "1", "-t", "probe", "-m", "x", "-i", "probe"]).returncode == 0
    assert m.run("dpkg --audit").stdout == ""
    assert_nothing_is_left(m)
