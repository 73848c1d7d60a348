# SPDX-License-Identifier: Apache-2.0
"""Machine: one booted system.

    with Machine(root) as m:            # a copy of root, booted
        m.run("systemctl start emqx")
        m.journal("_SYSTEMD_UNIT=emqx.service")

Its root is an overlay over a cached directory (disk="overlay"), or a file system of its own in an image, loop-mounted
(disk="ext4", "xfs", "btrfs"), which can lose its power. Everything it leaves goes away with stop(); what a killed run has left
is removed when the next one begins.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import uuid

from .cache import CACHE, cached, digest, identity, locked

WORK = pathlib.Path(os.environ.get("EMQX_UPGRADE_TEST_WORK", "/var/tmp/emqx-upgrade-tests"))
BOOT_TIMEOUT_SEC = 60
IMAGE_BYTES = 3 << 30

# A control group of its own: without one, two machines would share theirs, unit by unit. The disks of other machines would
# stay mounted in a copy of this host's mounts for as long as this one lives.
NSPAWN = """
echo $$ >"$CGROUP/cgroup.procs"
mount --make-rprivate /
for other in "$WORK"/*/root; do
    [ "$other" = "$OWN" ] || umount -l "$other" 2>/dev/null
done
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 "$@"
"""

# What logind queues when nobody holds the shutdown off. Where one does, as an upgrade for a while, it refuses root too (257).
GO_DOWN = ["systemctl", "--no-block", "--job-mode=replace-irreversibly", "start"]


def _cgroup_top():
    """Where this host has cgroup v2: alone, or beside v1."""
    for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if os.path.exists(f"{top}/cgroup.controllers"):
            return pathlib.Path(top)
    raise MachineError("this host has no cgroup v2")


def _remove_cgroup(path):
    """Ends every process in it, then removes it with all below, and what nspawn has made of that name beside v1's systemd."""
    if path.exists():
        path.joinpath("cgroup.kill").write_text("1")
        deadline = time.monotonic() + 10
        while "populated 1" in path.joinpath("cgroup.events").read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
    for top in (path, pathlib.Path("/sys/fs/cgroup/systemd", path.name)):
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


class MachineError(Exception):
    pass


def _mounts_below(path):
    found = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        where = line.split()[4]
        if where == str(path) or where.startswith(f"{path}/"):
            found.append(where)
    return found[::-1]


def _children(pid):
    try:
        return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_alive(pid, started):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19] == started
    except OSError:
        return False


def _started(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]


def _remove_leftovers(work):
    """Ends what a dead run has left: processes by its control group and by the id and start time that it noted."""
    _remove_cgroup(_cgroup_top() / work.name)
    pid_file = work / "pid"
    if pid_file.exists():
        words = pid_file.read_text().split()
        if len(words) == 2 and _is_alive(int(words[0]), words[1]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(words[0]), signal.SIGKILL)
            deadline = time.monotonic() + 10
            while _is_alive(int(words[0]), words[1]) and time.monotonic() < deadline:
                time.sleep(0.02)
    for where in _mounts_below(work):
        subprocess.run(["umount", "-l", where], check=False)
    shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _sweeping():
    """Nobody claims a directory while another looks for dead ones."""
    WORK.mkdir(parents=True, exist_ok=True)
    with open(WORK / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def claim_work(name):
    """(WORK/NAME, its lock): to be held open for as long as the directory is in use."""
    with _sweeping():
        work = WORK / name
        work.mkdir()
        lock = open(work / "lock", "w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return work, lock


def remove_dead_runs():
    """A run holds a lock on its directory while it lives. A machine that was kept goes with the rest."""
    with _sweeping():
        for work in WORK.glob("*/"):
            with contextlib.suppress(BlockingIOError, FileNotFoundError), open(work / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_leftovers(work)


def _journal_text(value):
    """journalctl writes a text, the bytes of what is not printable as numbers, or a list of these; null: too long. A field that
    both the unit and the message set, systemd 247 keeps twice."""
    if isinstance(value, list):
        if value and all(isinstance(v, int) for v in value):
            return bytes(value).decode(errors="replace")
        return "\n".join(dict.fromkeys(_journal_text(v) for v in value))
    return value or ""


class Machine:
    def __init__(self, root, disk="overlay", network=None, keep=False, disk_bytes=IMAGE_BYTES, disk_image=None):
        """disk_bytes: size of a disk of its own. disk_image: one that take_disk() has made, to begin with a copy of."""
        self.name = f"eu-{uuid.uuid4().hex[:8]}"
        self.root, self.disk, self.network, self.keep = pathlib.Path(root), disk, network, keep
        self.disk_bytes, self.disk_image = disk_bytes, disk_image
        self.work, self._lock = claim_work(self.name)
        self.top = self.work / "root"
        self.top.mkdir()
        self.address = None
        self._nspawn = None
        self.leader = None
        self._mount_root()

    def __enter__(self):
        try:
            self.boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    # --- disk ---

    def _mount_root(self):
        if self.disk == "overlay":
            for part in ("upper", "overlay"):
                (self.work / part).mkdir()
            # Directories of the lower layer can be renamed too, as on any other file system.
            options = f"redirect_dir=on,lowerdir={self.root},upperdir={self.work}/upper,workdir={self.work}/overlay"
            subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.top], check=True)
        else:
            image = self.work / "image"
            subprocess.run(["cp", "--sparse=always", self.disk_image or self._cached_image(), image], check=True)
            self._mount_image()

    def _cached_image(self):
        def make(path):
            image = path / "image"
            with open(image, "wb") as f:
                f.truncate(self.disk_bytes)
            if self.disk == "ext4":
                # Nothing is kept for root, so that a full disk is full for everybody.
                subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-d", self.root, image], check=True)
            else:
                subprocess.run([f"mkfs.{self.disk}", "-q", image], check=True)
                mount = path / "mount"
                mount.mkdir()
                # In a namespace of its own: a machine that is booted meanwhile would have a copy of the mount, and write to the
                # image while it is copied.
                subprocess.run(["unshare", "-m", "sh", "-ec", 'mount -o loop "$1" "$2"; cp -a "$3/." "$2"; umount "$2"', "sh",
                                image, mount, self.root], check=True)
        name = f"image-{self.disk}-{self.root.parent.name.rsplit('-', 1)[0]}"
        if self.disk_bytes != IMAGE_BYTES:
            name += f"-{self.disk_bytes >> 20}m"
        return cached(name, digest(identity(self.root), 1), make) / "image"

    def _mount_image(self):
        # mount(8) takes up a loop device that another mount namespace still has, with what is mounted of it.
        image = self.work / "image"
        self.wait_until(lambda: not subprocess.run(["losetup", "-j", image], capture_output=True, check=True).stdout, every=0.02)
        # Copies of one image have one UUID, which XFS takes for the same file system mounted twice.
        options = "loop,nouuid" if self.disk == "xfs" else "loop"
        subprocess.run(["mount", "-o", options, image, self.top], check=True)

    def _unmount(self):
        for where in _mounts_below(self.top):
            for _ in range(100):
                if subprocess.run(["umount", where], check=False, capture_output=True).returncode == 0:
                    break
                time.sleep(0.05)
            else:
                subprocess.run(["umount", "-l", where], check=False)

    # --- life ---

    def boot(self, whole=True):
        """Until it is up; not whole: until its systemd answers, which may still be starting what it has at boot."""
        if self._nspawn:
            raise MachineError(f"{self.name} is booted already")
        argv = ["systemd-nspawn", "-q", "-D", self.top, "-b", "--console=pipe", f"--machine={self.name}", "--register=no",
                "--keep-unit"]
        argv += self.network.nspawn_options(self) if self.network else ["--private-network"]
        begin = time.monotonic()
        self._console = open(self.work / "console", "ab")
        cgroup = _cgroup_top() / self.name
        _remove_cgroup(cgroup)
        cgroup.mkdir()
        self._nspawn = subprocess.Popen(["unshare", "-m", "sh", "-c", NSPAWN, "sh", *argv], stdin=subprocess.DEVNULL,
                                        stdout=self._console, stderr=self._console, start_new_session=True,
                                        env={**os.environ, "CGROUP": str(cgroup), "WORK": str(WORK), "OWN": str(self.top)})
        (self.work / "pid").write_text(f"{self._nspawn.pid} {_started(self._nspawn.pid)}")
        deadline = begin + BOOT_TIMEOUT_SEC
        while not self._is_up(whole):
            if self._nspawn.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise MachineError(f"{self.name} did not boot:\n{(self.work / 'console').read_text(errors='replace')}")
            time.sleep(0.02)
        self.boot_sec = time.monotonic() - begin
        if self.network:
            self.network.configure(self)

    def _is_up(self, whole):
        children = _children(self._nspawn.pid)
        if not children:
            return False
        self.leader = children[0]
        if not os.path.exists(f"/proc/{self.leader}/root/run/systemd/private"):
            return False
        if not whole:
            return True
        # Not is-system-running: what an upgrade that goes on does at boot keeps it "starting".
        state = subprocess.run([*self._enter(), "systemctl", "is-active", "multi-user.target"], capture_output=True, text=True,
                               check=False)
        return state.stdout.strip() == "active"

    def _wait_for_end(self, timeout):
        try:
            self._nspawn.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        # Its own namespaces live as long as the last process in it.
        leader, self._nspawn, self.leader = self.leader, None, None
        self.wait_until(lambda: not leader or not os.path.exists(f"/proc/{leader}"), every=0.02)
        self._console.close()
        return True

    def poweroff(self, timeout=120, meanwhile=lambda: None):
        """An orderly shutdown, whoever holds it off; meanwhile() is called once it has been asked for."""
        self.run([*GO_DOWN, "poweroff.target"], check=False)
        meanwhile()
        if not self._wait_for_end(timeout):
            raise MachineError(f"{self.name} did not power off")

    def reboot(self, timeout=120, meanwhile=lambda: None):
        """A reboot, whoever holds it off, and up again. With --keep-unit nspawn leaves the second boot to its caller."""
        self.run([*GO_DOWN, "reboot.target"], check=False)
        meanwhile()
        if not self._wait_for_end(timeout):
            raise MachineError(f"{self.name} did not go down")
        self.boot()

    def kill(self):
        """Everything in it ends at once."""
        if not self._nspawn:
            return
        _cgroup_top().joinpath(self.name, "cgroup.kill").write_text("1")
        self._wait_for_end(30)

    def power_cut(self):
        """What was not synced is lost: the file system is shut down without a flush, then mounted again."""
        if self.disk == "overlay":
            raise MachineError("an overlay cannot lose its power; use disk=\"ext4\"")
        if self.disk == "btrfs":
            self._cut_off_image()
        else:
            subprocess.run(["xfs_io", "-x", "-c", "shutdown", self.top], check=True)
        self._take_disk_off()
        self._mount_image()

    def make_read_only(self):
        """What ext4 does to itself once it has found an error, mounted as Debian does (errors=remount-ro); repair() ends it."""
        source = subprocess.run(["findmnt", "-no", "SOURCE", self.top], capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run(["mount", "-o", "remount,errors=remount-ro", self.top], check=True)
        pathlib.Path("/sys/fs/ext4", os.path.basename(source), "trigger_fs_error").write_text("1")

    def repair(self):
        """It loses its power, and its disk is checked as at the next boot: it can be written to again."""
        self._take_disk_off()
        if subprocess.run(["e2fsck", "-fp", self.work / "image"], capture_output=True, check=False).returncode > 1:
            raise MachineError(f"e2fsck does not mend {self.work}/image")
        self._mount_image()

    def _take_disk_off(self):
        self.kill()
        self._unmount()
        self._change_image()

    def _change_image(self):
        """What is on the disk, on another one: a machine that was booted meanwhile, whoever's, has a copy of the mount in its
        namespace, which keeps the old one in use for as long as it lives."""
        image, copy = self.work / "image", self.work / "image.copy"
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        if self.disk == "btrfs":
            subprocess.run(["chattr", "-i", image], check=True)
        copy.rename(image)

    def _cut_off_image(self):
        """btrfs cannot be shut down; its disk can: from one moment on no write reaches the image, since ext4 refuses to write
        to an immutable file, whoever has it open."""
        image = self.work / "image"
        with open(image, "r+b", buffering=0) as f:
            subprocess.run(["chattr", "+i", image], check=True)
            with contextlib.suppress(PermissionError):
                os.pwrite(f.fileno(), os.pread(f.fileno(), 1, 0), 0)
                subprocess.run(["chattr", "-i", image], check=False)
                raise MachineError(f"the file system of {image} lets an immutable file be written to: it cannot be cut off")

    def stop(self):
        self.kill()
        if not self.keep:
            self._unmount()
            _remove_leftovers(self.work)
        self._lock.close()

    def save_as_root(self, path):
        """A copy of its root for other machines; it must not run."""
        subprocess.run(["cp", "-a", "--reflink=auto", f"{self.top}/.", path], check=True)

    def take_disk(self, path):
        """Its disk, for other machines to begin with; it must not run, and has none afterwards."""
        self._unmount()
        (self.work / "image").rename(path)

    # --- inside ---

    def _enter(self):
        return ["nsenter", "-t", str(self.leader), "-a", "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
                "/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "TERM=dumb"]

    def _argv(self, command, user, env):
        argv = ["sh", "-c", command] if isinstance(command, str) else [str(a) for a in command]
        if user:
            argv = ["runuser", "-u", user, "--", *argv]
        return [*self._enter(), *(f"{k}={v}" for k, v in (env or {}).items()), *argv]

    def run(self, command, check=True, timeout=60, input=None, env=None, user=None):
        """A list is run as it is, a string by sh. Output is text, stray bytes kept by surrogateescape."""
        if not self.leader:
            raise MachineError(f"{self.name} does not run")
        with subprocess.Popen(self._argv(command, user, env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              errors="surrogateescape", stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                              start_new_session=True) as child:
            try:
                stdout, stderr = child.communicate(input, timeout)
            except BaseException as e:
                os.killpg(child.pid, signal.SIGKILL)  # nsenter's child too, which has the pipes
                stdout, stderr = child.communicate()
                if isinstance(e, subprocess.TimeoutExpired):
                    raise MachineError(f"{command!r} ran longer than {timeout} s:\n{stdout}{stderr}") from None
                raise
        if check and child.returncode != 0:
            raise MachineError(f"{command!r} failed with {child.returncode}:\n{stdout}{stderr}")
        return subprocess.CompletedProcess(command, child.returncode, stdout, stderr)

    def spawn(self, command, user=None, env=None, **popen):
        """The same in the background; the caller's to end."""
        return subprocess.Popen(self._argv(command, user, env), stdin=subprocess.DEVNULL, **popen)

    def wait_until(self, predicate, timeout=30, every=0.1):
        deadline = time.monotonic() + timeout
        while True:
            value = predicate()
            if value:
                return value
            if time.monotonic() > deadline:
                raise MachineError(f"not so within {timeout} s: {predicate}")
            time.sleep(every)

    # --- files ---

    def path(self, inside):
        """Where a file of the machine is on this host."""
        return pathlib.Path(f"{self.top}/{inside}")

    def exists(self, inside):
        return os.path.lexists(self.path(inside))

    def read(self, inside):
        return self.path(inside).read_text()

    def write(self, inside, text, mode=0o644):
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def push(self, source, inside):
        path = self.path(inside)
        if path.is_dir():
            path = path / pathlib.Path(source).name
        shutil.copy(source, path)
        return path

    def fill_disk(self, inside, leave_bytes):
        """Takes the room of the directory's file system, but for so much. Never that of this host."""
        if self.disk == "overlay":
            raise MachineError("an overlay's room is this host's; use disk=\"ext4\"")
        path = self.path(inside)
        vfs = os.statvfs(path)
        with open(path / ".filler", "wb") as f:
            try:
                os.posix_fallocate(f.fileno(), 0, vfs.f_bavail * vfs.f_frsize - leave_bytes)
            except OSError as e:
                if e.errno != errno.ENOSPC:  # who writes meanwhile has taken some of it: it is full
                    raise

    def free_disk(self, inside):
        self.path(inside).joinpath(".filler").unlink()

    # --- systemd ---

    def systemctl(self, *args, check=True):
        return self.run(["systemctl", *args], check=check)

    def unit(self, name):
        """All properties of a unit, as systemctl show prints them."""
        shown = self.run(["systemctl", "show", name]).stdout
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def _journal_sync(self):
        """Until journald has written what was sent to it so far: that a unit has ended is known sooner than its last words."""
        self.run(["journalctl", "--sync"], check=False)

    def journal(self, *matches, since=None):
        """Entries as dicts of text, oldest first, of all boots; since: those after a cursor."""
        self._journal_sync()
        argv = ["journalctl", "-o", "json", "--no-pager", "--all", *matches]
        if since:
            # --after-cursor loses the first entry where that of the cursor does not match (systemd 252).
            argv.append(f"--cursor={since}")
        entries = []
        for line in self.run(argv).stdout.splitlines():
            entry = json.loads(line)
            if entry["__CURSOR"] != since:
                entries.append({k: _journal_text(v) for k, v in entry.items()})
        return entries

    def journal_cursor(self):
        self._journal_sync()
        return self.run("journalctl -n 1 --show-cursor").stdout.rsplit("-- cursor: ", 1)[1].strip()

    def hold_lock(self, path):
        """A process inside that holds an fcntl lock on path, as dpkg does; kill() it."""
        script = ("import fcntl,os,sys,time; f=open(sys.argv[1],'a'); fcntl.lockf(f, fcntl.LOCK_EX); "
                  "print(os.getpid(), flush=True); time.sleep(600)")
        holder = self.spawn(["python3", "-c", script, path], stdout=subprocess.PIPE, text=True)
        pid = holder.stdout.readline().strip()
        if not pid:
            raise MachineError(f"cannot lock {path}")
        holder.kill = lambda: (self.run(["kill", "-9", pid]), holder.wait())  # nsenter's child, not nsenter
        return holder

    def install(self, *debs):
        """dpkg -i of files of this host."""
        self.run("mkdir -p /root/debs")
        for deb in debs:
            self.push(deb, "/root/debs")
        result = self.run("DEBIAN_FRONTEND=noninteractive dpkg -i /root/debs/*.deb; rc=$?; rm -r /root/debs; exit $rc", timeout=120)
        self.run("systemctl daemon-reload")
        return result


__all__ = ["Machine", "MachineError", "remove_dead_runs", "CACHE", "locked"]
