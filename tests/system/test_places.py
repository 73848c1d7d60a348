# SPDX-License-Identifier: Apache-2.0
"""Wherever the data is, and whatever is in it: it is found, backed up, and the same in the new version and back in the old."""

import pytest

from upgrade import (REFUSED, RUNTIME, assert_node_is, event_names, events, exit_status, node_files, retained, start, status,
                     tree, wait_for_end, wait_until_it_serves)

DROP_IN = "/etc/systemd/system/emqx.service.d/where.conf"

#: What a node has beside Mnesia: a resource's key, a queue, an export.
CONTENT = """
mkdir -p {0}/rules/resource:2 {0}/replayq/bridge
echo key >{0}/rules/resource:2/key.pem; chmod 0400 {0}/rules/resource:2/key.pem
head -c 300000 /dev/urandom >{0}/replayq/bridge/1
echo '{{}}' >{0}/emqx-export-2022-2-18-19-15-53.json
chown -R emqx:emqx {0}
"""


def another_directory(m, path):
    m.run(f"mkdir -p {path}" + CONTENT.format(path))


def by_environment(m, path):
    another_directory(m, path)
    m.write(DROP_IN, f"[Service]\nEnvironment=EMQX_NODE__DATA_DIR={path}\n")


def by_environment_file(m, path):
    another_directory(m, path)
    m.write("/etc/default/emqx-node", f"# where\nEMQX_NODE__DATA_DIR='/nowhere'\nEMQX_NODE__DATA_DIR=\"{path}\"\n")
    m.write(DROP_IN, "[Service]\nEnvironment=EMQX_NODE__DATA_DIR=/elsewhere\nEnvironmentFile=-/etc/default/emqx-node\n")


def by_emqx_conf(m, path):
    another_directory(m, path)
    m.run("sed -i '/^node.data_dir/d' /etc/emqx/emqx.conf")
    m.run(f"printf 'node.data_dir = /nowhere\\r\\n# node.data_dir = /no\\nnode.data_dir = {path}\\r\\n' >>/etc/emqx/emqx.conf")


def by_emqx_vars(m, path):
    m.run(f"mkdir -p {path} && cp -a /var/lib/emqx/. {path} && rm -rf /var/lib/emqx/mnesia")
    m.run(f"echo 'RUNNER_DATA_DIR=\"{path}\"' >>/usr/lib/emqx/releases/emqx_vars")


def both_one_in_the_other(m, path):
    by_emqx_vars(m, f"{path}/mnesia-and-more")
    by_environment(m, path)


def by_link(m, path):
    m.run(f"mkdir -p $(dirname {path}) && mv /var/lib/emqx {path} && ln -s ../..{path} /var/lib/emqx")


#: place: (how it gets there, the path, trees of the plan by name)
PLACES = {
    "environment": (by_environment, "/srv/emqx", {"etc", "data", "node-data"}),
    "environment-file": (by_environment_file, "/srv/emqx-data", {"etc", "data", "node-data"}),
    "emqx.conf": (by_emqx_conf, "/srv/emqx", {"etc", "data", "node-data"}),
    "emqx_vars": (by_emqx_vars, "/srv/emqx", {"etc", "data", "node-data"}),
    "container": (by_environment, "/opt/emqx/data", {"etc", "data", "node-data"}),
    "in-the-other": (by_environment, "/var/lib/emqx/inner", {"etc", "data"}),
    "around-the-other": (both_one_in_the_other, "/srv/emqx", {"etc", "node-data", "default-data"}),
    "link": (by_link, "/srv/emqx", {"etc", "data"}),
}


def running_on(m, place):
    """The node stopped, its data taken elsewhere, and started there."""
    how, path, trees = PLACES[place]
    m.run("systemctl stop emqx; systemctl reset-failed emqx")
    how(m, path)
    m.run("systemctl daemon-reload && systemctl start emqx", timeout=120)
    wait_until_it_serves(m)
    return path, trees


def content(m, path):
    """What is in a directory beside what a running node writes by itself, at whatever depth that is."""
    return {name: entry for name, entry in tree(m, path).items() if not set(name.split("/")) & set(RUNTIME)}


@pytest.mark.parametrize("place", PLACES)
def test_data_is_found_and_carried(node, place):
    path, trees = running_on(node, place)
    messages = retained(node, node.n_retained)
    plan = node.run("emqx-upgrade plan 4.4.0").stdout
    assert path in plan
    node_before, before = node_files(node), content(node, path)

    assert start(node).returncode == 0
    assert {t["name"] for t in status(node)["plan"]["trees"]} == trees
    assert_node_is(node, "4.4.0")
    assert retained(node, node.n_retained) == messages
    assert content(node, path) == before

    assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode == 0
    assert_node_is(node, "4.3.12")
    assert node_files(node) == node_before and content(node, path) == before
    assert {**messages, **retained(node, node.n_retained)} == messages


@pytest.mark.parametrize("path, because", [
    ("/", "no place for a node"), ("/var/lib", "no place for a node"), ("/var/lib/emqx-upgrade/data", "no place for a node"),
    ("/usr/lib/emqx", "the program itself"), ("/usr/lib", "no place for a node"), ("/etc/passwd", "is no directory")])
def test_place_that_is_others_is_refused(node, path, because):
    node.run("mkdir -p /var/lib/emqx-upgrade/data")
    node.write(DROP_IN, f"[Service]\nEnvironment=EMQX_NODE__DATA_DIR={path}\n")
    node.run("systemctl daemon-reload")

    assert start(node).returncode != 0
    assert exit_status(node) == REFUSED
    assert because in events(node, "upgrade-refused")[0]["EMQX_UPGRADE_ERROR"]
    assert "node-stopped" not in event_names(node)


HOSTILE = r"""
import os
top = b"/var/lib/emqx/rules"
os.chdir(top)
for name in (b"new\nline", b"x" * 255, b"\xff\xfe", b"\xc3\xa4", b"-rf", b"*", b" ", b"a\\b", b"tab\t", b"$(touch no)", b"'\"", b"\x1b[31m"):
    open(name, "wb").write(name)
for i in range(100):
    os.mkdir(b"many-%d" % i)
    for j in range(1000):
        open(b"many-%d/%d" % (i, j), "wb").write(b"%d" % j)
os.mkdir("one"); os.mkdir("other")
open("one/file", "w").write("linked")
os.link("one/file", "other/file")
with open("sparse", "wb") as f:
    f.truncate((4 << 30) + (16 << 20)); f.seek((4 << 30) + (8 << 20)); f.write(b"in the middle")
here = os.open(".", os.O_RDONLY)
for i in range(40):
    os.mkdir("d" * 200, dir_fd=here)
    inner = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
    os.close(here)
    here = inner
os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))
os.setxattr("one", "user.note", b"kept")
"""

#: Depth, links and holes, as find(1) sees them: sha256sum(1) cannot go beyond PATH_MAX.
SEEN = (r"cd /var/lib/emqx/rules && find . -printf '%P\0%y\0%m\0%u\0%n\0%s\0' | sha256sum; find . | wc -l; stat -c %b sparse; "
        r"dd if=sparse bs=13 count=1 skip=4303355904 iflag=skip_bytes status=none; find . -name bottom | wc -c; "
        r"[ one/file -ef other/file ] && echo linked; getfattr -n user.note --only-values one; getfacl -p one | grep daemon; "
        r"find . -maxdepth 1 -type f ! -name sparse -print0 | sort -z | xargs -0 sha256sum -z | sha256sum")


def test_any_file_tree_is_carried(node):
    node.run("systemctl stop emqx; systemctl reset-failed emqx")
    node.run(["python3", "-c", HOSTILE], timeout=120)
    node.run("setfacl -m u:daemon:rwx /var/lib/emqx/rules/one; chown -R emqx:emqx /var/lib/emqx/rules; systemctl start emqx", timeout=120)
    wait_until_it_serves(node)
    before = node.run(SEEN, timeout=120).stdout
    assert "in the middle" in before and "linked" in before

    result = start(node, timeout=500)
    assert result.returncode == 0
    assert_node_is(node, "4.4.0")
    assert node.run(SEEN, timeout=120).stdout == before

    assert node.run("emqx-upgrade rollback", check=False, timeout=500).returncode == 0
    assert_node_is(node, "4.3.12")
    assert node.run(SEEN, timeout=120).stdout == before


def test_data_on_a_mount_of_its_own(node):
    node.run("systemctl stop emqx; systemctl reset-failed emqx; cp -a /var/lib/emqx /root/data")
    node.run("mount -t tmpfs -o mode=0755 tmpfs /var/lib/emqx && cp -a /root/data/. /var/lib/emqx && chown emqx:emqx /var/lib/emqx")
    node.run("systemctl start emqx", timeout=120)
    wait_until_it_serves(node)
    messages, before = retained(node, node.n_retained), node_files(node)
    assert " on tmpfs; RUNNER_DATA_DIR" in node.run("emqx-upgrade plan 4.4.0").stdout

    assert start(node).returncode == 0
    assert_node_is(node, "4.4.0")
    assert retained(node, node.n_retained) == messages

    assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode == 0
    assert_node_is(node, "4.3.12")
    assert node_files(node) == before
    assert node.run("findmnt -n -o FSTYPE /var/lib/emqx").stdout == "tmpfs\n"


#: Mounted when /run/volume is there, which at boot it is not; like `nofail`, with a disk that takes its time.
VOLUME = """[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'until [ -e /run/volume ]; do sleep 0.1; done'
"""


def test_data_that_is_mounted_late_at_boot_is_waited_for(node):
    """What an empty mount point has in it is not the node's data, and must not be backed up, started on or restored."""
    node.write("/etc/systemd/system/volume.service", VOLUME)
    node.write("/etc/fstab", "/srv/volume /data none bind,nofail,x-systemd.requires=volume.service 0 0\n")
    node.run("mkdir -p /srv/volume /data; touch /run/volume; systemctl daemon-reload; systemctl start data.mount")
    node.run("systemctl stop emqx; systemctl reset-failed emqx")
    by_emqx_vars(node, "/data")
    node.run("systemctl daemon-reload && systemctl start emqx", timeout=120)
    wait_until_it_serves(node)
    messages = retained(node, node.n_retained)
    before, stored = content(node, "/data"), node.run("find /data/mnesia -type f").stdout
    assert before and stored

    start(node, block=False)
    node.wait_until(lambda: any(e["EMQX_UPGRADE_STEP"] == "backup" for e in events(node, "step-begun")), timeout=90, every=0.02)
    node.kill()
    node.boot()
    unit = "emqx-upgrade@4.4.0.service"
    node.wait_until(lambda: "waiting for a mount of the file system of /data, " in node.unit(unit).get("StatusText", ""), timeout=60)
    assert "The file system of /data is not mounted. Mount it" in events(node, "waiting")[-1]["MESSAGE"]
    assert node.run("systemctl is-active emqx", check=False).stdout == "inactive\n"
    assert node.run("ls -A /data").stdout == ""
    node.run("touch /run/volume")

    wait_for_end(node)
    assert node.unit(unit)["NRestarts"] == "0"
    assert_node_is(node, "4.4.0")
    assert retained(node, node.n_retained) == messages
    assert content(node, "/data") == before

    node.run("systemctl stop emqx; umount /data")
    assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode != 0
    assert "Nothing is mounted on /data" in events(node, "upgrade-refused")[-1]["EMQX_UPGRADE_ERROR"]
    node.run("systemctl start data.mount emqx", timeout=120)
    wait_until_it_serves(node)

    assert node.run("emqx-upgrade rollback", check=False, timeout=120).returncode == 0
    assert_node_is(node, "4.3.12")
    assert content(node, "/data") == before
    assert {**messages, **retained(node, node.n_retained)} == messages


def test_room_for_the_way_back_is_reserved_where_the_data_is(node):
    """Beside it, on its own file system, and where the program is, until the upgrade is over; not through a link in its place."""
    node.run("mount -t tmpfs -o mode=0755,size=64m tmpfs /srv; cp -a /var/lib/emqx-upgrade /root; "
             "mount -t tmpfs -o mode=0700,size=512m tmpfs /var/lib/emqx-upgrade; cp -a /root/emqx-upgrade /var/lib")
    running_on(node, "link")
    node.write("/etc/victim", "as it was\n")
    node.run("chown emqx: /srv; ln -s /etc/victim /srv/.emqx-upgrade-reserve")
    node.write("/etc/emqx-upgrade/hooks.d/look", "#!/bin/sh\n[ $1 != undrain ] || "
               "stat -c '%F %b' /srv/.emqx-upgrade-reserve /.emqx-upgrade-reserve >/var/log/reserved\n", mode=0o755)

    assert start(node).returncode == 0
    assert_node_is(node, "4.4.0")
    plan = status(node)["plan"]
    (data,) = [t["bytes"] for t in plan["trees"] if t["name"] == "data"]
    of_data, of_program = (line.rsplit(" ", 1) for line in node.run("cat /var/log/reserved").stdout.splitlines())
    assert of_data[0] == of_program[0] == "regular file"
    assert int(of_data[1]) * 512 >= data > 0
    assert int(of_program[1]) * 512 >= plan["old_program_bytes"] > 0
    assert node.run("cat /etc/victim").stdout == "as it was\n"
    assert not node.exists("/.emqx-upgrade-reserve")
    assert node.run("ls -A /srv").stdout.split() == ["emqx"]
