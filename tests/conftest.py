# SPDX-License-Identifier: Apache-2.0
"""Fixtures: machines with and without a node. See tests/README.md."""

import functools
import hashlib
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent / "system"))
sys.path.insert(0, str(pathlib.Path(__file__).parent / "node"))

import kinds  # noqa: E402
from machine.cache import CACHE, TOP, cached, digest, locked, tree_digest  # noqa: E402
from machine.machine import Machine, remove_dead_runs  # noqa: E402
from machine.network import Network, remove_dead_networks  # noqa: E402
from machine.root import HOST, SUITE, builder, debian  # noqa: E402

PACKAGES = "/var/lib/emqx-upgrade/packages"

#: What a client has left on the node before the upgrade.
RETAINED = {**{f"plant/{i}/state": f"value {i}" for i in range(1, 20)}, "umlaut/ä": "größer", "empty/level/": "x y  z"}

#: What an operator has changed: his own node, kept on disc, with modes of his own, beside files of his own.
OPERATOR = r"""
sed -i 's/^log.level = warning/log.level = error/; s/^mqtt.max_packet_size = 1MB/mqtt.max_packet_size = 2MB/' $ETC/emqx.conf
sed -i 's/^retainer.storage_type = .*/retainer.storage_type = disc/' $ETC/plugins/emqx_retainer.conf
printf '{allow, {user, "operator"}, pubsub, ["#"]}.\n%s\n' "$(cat $ETC/acl.conf)" >$ETC/acl.conf.new
mv $ETC/acl.conf.new $ETC/acl.conf
chown emqx:emqx $ETC/acl.conf
chmod 0600 $ETC/emqx.conf
printf 'the operator'"'"'s own\n' >$ETC/certs/own.pem
chown emqx:emqx $ETC/certs/own.pem
chmod 0400 $ETC/certs/own.pem
ln -s own.pem $ETC/certs/current.pem
sed -i 's/{emqx_telemetry, true}/{emqx_telemetry, false}/' $DATA/loaded_plugins
mkdir -p $DATA/rules/resource:1
echo key >$DATA/rules/resource:1/key.pem
ln $DATA/rules/resource:1/key.pem $DATA/rules/resource:1/same.pem
truncate -s 8M $DATA/replayq-sparse
chown -R emqx:emqx $DATA/rules $DATA/replayq-sparse
setfacl -m u:daemon:r $DATA/rules/resource:1/key.pem
chmod 2750 $DATA/rules/resource:1
setfattr -n user.note -v kept $DATA/rules/resource:1
touch -d '2021-03-04 05:06:07.123456789' $ETC/psk.txt $DATA/rules/resource:1
"""


#: Every upgrade is watched, and none for long: those of test_acceptance.py are. What a busy machine makes a node log is
#: no reason to go back.
WATCH = "[Upgrade]\nWatchSec=100ms\nLogErrors=warn\n"


def pytest_addoption(parser):
    parser.addoption("--keep", action="store_true", help="keep the machine of a test that failed, and say where it is")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        remove_dead_runs()
        remove_dead_networks()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, f"report_{call.when}", outcome.get_result())


class Node(Machine):
    """A machine with a node of a kind, "deb", "rpm" or "zip"; n_retained messages are on it."""
    n_retained = len(RETAINED)

    def __init__(self, root, node_packages, kind="deb", **options):
        self.kind, self.node_packages = kind, node_packages
        self.root_dir, self.bin_dir, self.etc, self.data, self.log = kinds.LAYOUTS[kind]
        super().__init__(root, **options)

    def push_package(self, variant, directory=PACKAGES):
        """A package of the test node, of the machine's kind, with its checksum."""
        file = kinds.package(self.node_packages, variant, self.kind)
        for pushed in (file, file.with_name(file.name + ".sha256")):
            self.push(pushed, directory)


#: Releases that this host's Erlang does not run on, and what makes the test node's sources fit for their own. Erlang 23 is
#: told by its arguments not to listen and to hide; its erl_call cannot fetch output, so each command has a VM of its own.
OWN_ERLANG = {"bullseye": r"""
    sed -i 's/net_kernel:start(Self, .*)/net_kernel:start([Self, longnames])/' tests/node/broker/nodetool.erl
    sed -i 's/+sbwt none/& -hidden -dist_listen false/' tests/node/build-node
"""}

SOURCES = ["configure.ac", "Makefile.am", "src", "units", "catalog", "man", "completions", "schema", "debian", "examples",
           "tests/unit", "README.md", "NEWS", "CONTRIBUTING.md", "LICENSE", ".clang-format", ":!debian/tests"]


def _export(path):
    """The tree as git would take it, working changes included."""
    path.mkdir()
    listed = subprocess.run(["git", "-c", f"safe.directory={TOP}", "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"], cwd=TOP, check=True, capture_output=True).stdout
    existing = b"\0".join(n for n in listed.split(b"\0") if n and (TOP / n.decode()).exists())
    tar = subprocess.run(["tar", "c", "--null", "-T", "-"], cwd=TOP, input=existing, check=True, capture_output=True).stdout
    subprocess.run(["tar", "x", "-C", path], input=tar, check=True)


def _build(argv, path):
    built = subprocess.run(argv, cwd=path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-5000:]


def _build_there(suite, command, path):
    """Has the tree at hand in /root/tree of a machine of another release, and takes what the command leaves in /root/out."""
    with Machine(builder(suite)) as m:
        _export(m.path("/root/tree"))
        m.run(f"mkdir /root/out; cd /root/tree; {command}", timeout=1200)
        shutil.copytree(m.path("/root/out"), path, dirs_exist_ok=True)


def deb_of(suite):
    """Our package, built from the tree as it is, by a release of Debian."""
    def make(path):
        if suite == HOST:
            _export(path / "export")
            _build(["dpkg-buildpackage", "-us", "-uc", "-b", "-j2"], path / "export")
            shutil.rmtree(path / "export")
        else:
            _build_there(suite, "DEB_BUILD_OPTIONS=noautodbgsym dpkg-buildpackage -us -uc -b -j2 && mv ../*.deb ../out", path)
    name, key = ("our-deb", tree_digest(*SOURCES)) if suite == HOST else (f"{suite}-deb", digest(builder(suite), tree_digest(*SOURCES)))
    (deb,) = cached(name, key, make).glob("emqx-upgrade_*.deb")
    return deb


@pytest.fixture(scope="session")
def emqx_upgrade_deb():
    """Our package, as machines have it."""
    return deb_of(SUITE)


@pytest.fixture(scope="session")
def our_rpm():
    """Our package as an .rpm, built from a tarball as `make dist` makes it. Debian's rpm knows no build dependencies."""
    command = ("autoreconf -fi && ./configure -q && make -s dist && mv emqx-upgrade-*.tar.xz {out} && rpmbuild -bb --nodeps"
               " --define '_topdir {out}/top' --define '_sourcedir {out}' --define '_rpmdir {out}' --define '_dbpath {out}/db'"
               " rpm/emqx-upgrade.spec")

    def make(path):
        if SUITE == HOST:
            _export(path / "export")
            _build(["sh", "-c", command.format(out=path)], path / "export")
        else:
            _build_there(SUITE, command.format(out="/root/out"), path)
        for scratch in ("export", "top", "db"):
            shutil.rmtree(path / scratch, ignore_errors=True)
    sources = tree_digest(*SOURCES, "rpm")
    name, key = ("our-rpm", sources) if SUITE == HOST else (f"{SUITE}-rpm", digest(builder(SUITE), sources))
    (rpm,) = cached(name, key, make).glob("*/emqx-upgrade-[0-9]*.rpm")
    return rpm


@pytest.fixture(scope="session")
def machine_test_program():
    """A unit test program that needs a booted systemd, by its name."""
    def build(name):
        command = f"autoreconf -fi && ./configure -q && make -s -j2 tests/unit/{name}"

        def make(path):
            if SUITE == HOST:
                _export(path / "export")
                _build(["sh", "-c", command], path / "export")
                shutil.copy(path / "export/tests/unit" / name, path / name)
                shutil.rmtree(path / "export")
            else:
                _build_there(SUITE, f"({command}) && mv tests/unit/{name} ../out", path)
        if SUITE == HOST:
            return cached(f"program-{name}", tree_digest(*SOURCES), make) / name
        return cached(f"{SUITE}-program-{name}", digest(builder(SUITE), tree_digest(*SOURCES)), make) / name
    return build


def node_packages_of(suite, *variants):
    """Directory of the test node's packages, one below for each variant; around another Erlang of those alone that are named. They
    carry this host's Erlang, which runs on a newer release, but not on an older one: there they are built around its own."""
    if suite not in OWN_ERLANG:
        out = CACHE / "node"
        with locked("node"):
            subprocess.run([TOP / "tests/node/build-node", "--out", out, "--all"], check=True)
        return out

    def make(path):
        _build_there(suite, f"{OWN_ERLANG[suite]} tests/node/build-node --out ../out {' '.join(variants) or '--all'}", path)
    sources = tree_digest("tests/node/build-node", "tests/node/broker", "tests/node/files")
    return cached(f"{suite}-node{len(variants) or ''}", digest(builder(suite), sources, OWN_ERLANG[suite], *variants), make)


@pytest.fixture(scope="session")
def node_packages():
    return node_packages_of(SUITE)


@pytest.fixture(scope="session")
def populated_root(emqx_upgrade_deb, node_packages):
    """root(version, kind): our package, and a node of that version, configured by an operator and with messages."""
    return populated_root_of(SUITE, emqx_upgrade_deb, node_packages)


def populated_root_of(suite, our_deb, node_packages):
    def root(version, kind="deb"):
        def make(path):
            with Node(debian(suite), node_packages, kind) as m:
                kinds.install(m, node_packages, kind, version)
                m.install(our_deb)
                m.write("/etc/emqx-upgrade/emqx-upgrade.conf.d/10-watch.conf", WATCH, mode=0o644)
                m.run(OPERATOR, env={"ETC": m.etc, "DATA": m.data})
                if version in ("4.3.12", "4.3.22"):
                    m.run("systemctl start emqx")
                    for topic, payload in RETAINED.items():
                        m.run(["mosquitto_pub", "-q", "1", "-r", "-t", topic, "-m", payload])
                m.poweroff()
                for old in ("var/log/journal", m.log):
                    for file in m.path(old).rglob("*"):
                        if file.is_file():
                            file.unlink()
                path.joinpath("root").mkdir()
                m.save_as_root(path / "root")
        key = hashlib.sha256(f"{our_deb} {(node_packages / version / '.stamp').read_text()} {debian(suite)} {OPERATOR} "
                             f"{kinds.ZIP_UNIT} {RETAINED} {WATCH} 2".encode()).hexdigest()[:16]
        return cached(f"populated-{version}-{kind}" if suite == HOST else f"{suite}-populated-{version}-{kind}", key, make) / "root"
    return root


def unwrapped(fixture):
    """The function beneath a fixture, for those who are no test."""
    return fixture.__pytest_wrapped__.obj


def _finish(machine, request):
    report = getattr(request.node, "report_call", None)
    if report and report.failed:
        if machine.leader:
            print(machine.run("journalctl -b -n 120 --no-pager -o short-precise", check=False).stdout)
        if request.config.getoption("--keep"):
            machine.keep = True
            print(f"kept: {machine.work}")
    machine.stop()


@pytest.fixture
def machine_factory(request):
    """machine_factory(disk="overlay", network=None): a booted Debian without anything."""
    machines = []

    def factory(**options):
        m = Machine(debian(), **options)
        machines.append(m)
        m.boot()
        return m
    yield factory
    for m in machines:
        _finish(m, request)


@pytest.fixture
def machine(machine_factory):
    return machine_factory()


def _boot_node(populated_root, node_packages, version="4.3.12", target="4.4.0", kind="deb", **options):
    m = Node(populated_root(version, kind), node_packages, kind, **options)
    try:
        m.boot()
        # The node starts at boot, as an enabled unit does.
        if version.startswith("4.3."):
            m.wait_until(lambda: m.unit("emqx.service")["ActiveState"] == "active", timeout=60)
            m.wait_until(lambda: "is running now!" in m.run(f"cat {m.log}/erlang.log.*").stdout, timeout=60)
        m.run(["mkdir", "-p", PACKAGES])
        m.push_package(version)
        if target:
            m.push_package(target)
    except BaseException:
        m.stop()
        raise
    return m


@pytest.fixture(params=kinds.LAYOUTS)
def kind(request):
    """For a test that asks for it, its `node` and `node_factory` are of each kind in turn."""
    return request.param


@pytest.fixture(scope="session")
def boot_node(populated_root, node_packages):
    """boot_node(kind=…, …): the same, the caller's to stop()."""
    return functools.partial(_boot_node, populated_root, node_packages)


@pytest.fixture
def node_factory(request, populated_root, node_packages):
    """A booted node with both packages at hand: node_factory(version="4.3.12", target="4.4.0", disk="overlay", kind="deb")."""
    machines = []
    parameters = getattr(request.node, "callspec", None)
    default_kind = parameters.params.get("kind", "deb") if parameters else "deb"

    def factory(**options):
        machines.append(_boot_node(populated_root, node_packages, **{"kind": default_kind, **options}))
        return machines[-1]
    yield factory
    for m in machines:
        _finish(m, request)


@pytest.fixture
def node(node_factory):
    return node_factory()


@pytest.fixture(scope="module")
def shared_node(request, populated_root, node_packages):
    """One node for all tests of a module, none of which may touch it."""
    m = _boot_node(populated_root, node_packages)
    yield m
    m.stop()


@pytest.fixture
def network():
    with Network() as n:
        yield n


@pytest.fixture(autouse=True)
def duration_in_output(request):
    begin = time.monotonic()
    yield
    print(f"{request.node.name}: {time.monotonic() - begin:.1f} s")
