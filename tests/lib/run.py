# SPDX-License-Identifier: Apache-2.0
"""Runs the suites and counts: every case of a unit test, every pytest test and every static check is one. What is
skipped, crashes, or could not run has failed."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET

TOP = pathlib.Path(__file__).resolve().parents[2]
SUITES = ("build", "unit", "sanitizers", "static", "distcheck", "machine", "node", "system", "releases", "faults")
BESIDE = ("static", "distcheck")  # use the processor while machines boot and wait
TIMEOUT_SEC, PYTEST_TIMEOUT_SEC = 900, 3900
CASE_RE = re.compile(r"^\[ +(OK|FAILED|SKIPPED|ERROR) +\] (\w+)$", re.M)
FOREIGN_ENVIRONMENT = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LIBRARY_PATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CDPATH",
                       "PYTEST_ADDOPTS", "PYTHONPATH", "GIT_DIR", "GIT_WORK_TREE", "XDG_RUNTIME_DIR")


class Run:
    def __init__(self, pattern):
        self.pattern = pattern
        self.results = {suite: {} for suite in SUITES}  # suite: {name: (passed, output)}
        self.slowest = {}  # suite: lines
        self.lock = threading.Lock()
        self.children = set()
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="emqx-upgrade-all.", dir="/var/tmp"))
        self.work.chmod(0o755)  # some tests become other users
        for name, mode in (("home", 0o755), ("tmp", 0o1777)):
            (self.work / name).mkdir()
            (self.work / name).chmod(mode)
        self.env = {k: v for k, v in os.environ.items() if k not in FOREIGN_ENVIRONMENT}
        self.env.update(HOME=str(self.work / "home"), TMPDIR=str(self.work / "tmp"), LC_ALL="C.UTF-8", TERM="dumb",
                        PYTHONDONTWRITEBYTECODE="1", DEBIAN_FRONTEND="noninteractive")
        self.tree, self.build = self.work / "tree", self.work / "build"
        self.trouble, self.build_lock = None, threading.Lock()

    def wants_suite(self, suite):
        if self.pattern in SUITES:
            return suite == self.pattern
        head, slash, _ = self.pattern.partition("/")
        return not slash or suite.endswith(head)

    def wants(self, suite, name):
        return self.pattern in ("", suite) or self.pattern in f"{suite}/{name}"

    def count(self, suite, name, ok, output=""):
        self.results[suite][name] = (ok, output)

    def call(self, argv, timeout=TIMEOUT_SEC, beside=False, **kwargs):
        """(ok, output) of a program. It and whatever it has started in its session end with its time."""
        argv = (["nice", "-n", "10"] if beside else []) + [str(a) for a in argv]
        with tempfile.TemporaryFile(dir=self.work) as said:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
                                     start_new_session=True, env=self.env, **kwargs)
            self.children.add(child)
            late = ""
            try:
                child.wait(timeout)
            except subprocess.TimeoutExpired:
                late = f"\nran longer than {timeout} s"
            finally:
                self.end(child)
            said.seek(0)
            return child.returncode == 0 and not late, said.read().decode(errors="replace") + late

    def end(self, child):
        """Asks first, so that pytest takes its machines down."""
        for sig, patience in ((signal.SIGINT, 60), (signal.SIGKILL, 10)):
            if child.poll() is None:
                os.killpg(child.pid, sig)
                try:
                    child.wait(patience)
                except subprocess.TimeoutExpired:
                    pass
        self.children.discard(child)

    # --- the tree, built away from it ---

    def export(self):
        """A copy of the tree as git knows it, with configure made: the checkout stays as it is."""
        self.tree.mkdir()
        listed = subprocess.run(["git", "-c", f"safe.directory={TOP}", "ls-files", "-z", "--cached", "--others",
                                 "--exclude-standard"], cwd=TOP, check=True, capture_output=True, env=self.env).stdout
        names = b"\0".join(n for n in listed.split(b"\0") if n and (TOP / os.fsdecode(n)).exists())
        tar = subprocess.run(["tar", "c", "--null", "-T", "-"], cwd=TOP, input=names, check=True, capture_output=True).stdout
        subprocess.run(["tar", "x", "-C", self.tree], input=tar, check=True)
        return self.call(["autoreconf", "-fi"], cwd=self.tree)

    def configure(self, build, *options, **kwargs):
        build.mkdir()
        return self.call([self.tree / "configure", "-q", *options], cwd=build, **kwargs)

    def built(self, suite):
        """Whether there is a build, made at the first call."""
        with self.build_lock:
            if self.trouble is None:
                ok, output = self.export()
                if ok:
                    ok, output = self.configure(self.build, "CFLAGS=-O2 -g -Wall -Wextra -Werror")
                if ok:
                    ok, output = self.call(["make", "-j2"], cwd=self.build)
                self.trouble = "" if ok else output
        if self.trouble and suite != "build":
            self.count(suite, "not-run", False, "the build failed")
        return not self.trouble

    def programs(self, suite):
        """The unit tests of make check that may have a case that is wanted."""
        lists = "".join(p.read_text() for p in sorted(TOP.glob("tests/unit/*.inc"))).replace("\\\n", " ")
        listed = " ".join(re.findall(r"^check_PROGRAMS \+= (.*)$", lists, re.M)).split()
        if not listed:
            self.count(suite, "programs", False, "no check_PROGRAMS in tests/unit/*.inc")
        words = {p: re.findall(r"\w+", (TOP / f"{p}.c").read_text()) for p in listed}
        return [p for p in listed if any(self.wants(suite, f"{pathlib.PurePath(p).name}:{w}") for w in words[p])]

    def unit_tests(self, suite, build, programs):
        """make check; cmocka tells of every case by itself."""
        ok, output = self.call(["make", "-j2", "check", f"TESTS={' '.join(programs)}"], cwd=build)
        failures = 0
        for program in programs:
            name, log, trs = pathlib.PurePath(program).name, build / f"{program}.log", build / f"{program}.trs"
            text = log.read_text(errors="replace") if log.exists() else output
            cases = {case: verdict == "OK" for verdict, case in CASE_RE.findall(text)}
            expected = sum(int(n) for n in re.findall(r"^\[=+\] .*?Running (\d+) test", text, re.M))
            for case, passed in cases.items():
                failures += not passed
                if self.wants(suite, f"{name}:{case}"):
                    self.count(suite, f"{name}:{case}", passed, text)
            ended_well = trs.exists() and ":test-result: PASS" in trs.read_text()
            if all(cases.values()) and not ended_well or not cases or len(cases) != expected:
                failures += 1  # crashed, leaked, or did not run all it has
                self.count(suite, f"{name}:whole", False, f"{len(cases)} of {expected} cases ended\n{text}")
        if not ok and not failures:
            self.count(suite, "make-check", False, output)

    # --- suites ---

    def suite_build(self):
        if self.wants("build", "warnings-are-errors"):
            self.count("build", "warnings-are-errors", self.built("build"), self.trouble)

    def suite_unit(self):
        programs = self.programs("unit")
        if programs and self.built("unit"):
            self.unit_tests("unit", self.build, programs)

    def suite_sanitizers(self):
        programs = self.programs("sanitizers")
        if not programs or not self.built("sanitizers"):
            return
        self.env.update(ASAN_OPTIONS="detect_leaks=1", UBSAN_OPTIONS="print_stacktrace=1")
        ok, output = self.configure(self.work / "sanitizers", "--enable-sanitizers", "CFLAGS=-O1 -g -Werror")
        if ok:
            self.unit_tests("sanitizers", self.work / "sanitizers", programs)
        else:
            self.count("sanitizers", "configure", False, output)

    def suite_distcheck(self):
        if self.wants("distcheck", "tarball") and self.built("distcheck"):
            self.count("distcheck", "tarball", *self.call(["make", "-j2", "distcheck", "TESTS="], cwd=self.build, beside=True))

    def suite_static(self):
        checks = TOP / "tests/static/checks.py"
        ok, output = self.call([sys.executable, checks, "--list"])
        if not ok or not output.split():
            self.count("static", "list", False, output)
            return
        wanted = [name for name in output.split() if self.wants("static", name)]
        if wanted and self.built("static"):
            for name in wanted:
                self.count("static", name, *self.call([sys.executable, checks, name, self.build], beside=True))

    def pytest(self, suite):
        report = self.work / f"{suite}.xml"
        argv = [sys.executable, "-m", "pytest", "-q"]
        ok, output = self.call([*argv, "--collect-only", suite], cwd=TOP / "tests")
        names = {i: f"{i.split('::')[0].split('/')[-1].removesuffix('.py')}::{i.split('::', 1)[1]}"
                 for i in output.splitlines() if i.startswith(f"{suite}/") and "::" in i}
        wanted = [i for i, name in names.items() if self.wants(suite, name)]
        if not ok or not names:
            self.count(suite, "collection", False, output)
        if not wanted:
            return
        ok, output = self.call([*argv, "--tb=short", f"--junitxml={report}", "-o", "junit_logging=system-out",
                                f"--basetemp={self.work}/pytest-{suite}", "-n", "3",
                                *([suite] if len(wanted) == len(names) else wanted)], PYTEST_TIMEOUT_SEC, cwd=TOP / "tests")
        troubles, times = {}, []  # a test whose teardown fails may be told of twice
        for case in ET.parse(report).getroot().iter("testcase") if report.exists() else ():
            trouble = [f"{c.get('message')}\n{c.text}" for c in case if c.tag in ("failure", "error", "skipped")]
            if trouble and case.findtext("system-out"):
                trouble.append(case.findtext("system-out"))
            name = f"{case.get('classname').rsplit('.', 1)[-1]}::{case.get('name')}"
            troubles.setdefault(name, []).extend(trouble)
            times.append((float(case.get("time", 0)), name))
        self.slowest[suite] = [f"{sec:.0f} s {name}" for sec, name in sorted(times, reverse=True)[:8]]
        for name, trouble in troubles.items():
            self.count(suite, name, not trouble, "\n".join(trouble))
        if len(troubles) < len(wanted) or not ok and not any(troubles.values()):
            self.count(suite, "pytest", False, f"{len(troubles)} of {len(wanted)} tests ended\n{output}")

    def run_suite(self, suite):
        if not self.wants_suite(suite):
            return
        since, results = time.monotonic(), self.results[suite]
        try:
            if suite in ("machine", "node", "system", "releases", "faults"):
                self.pytest(suite)
            else:
                getattr(self, f"suite_{suite}")()
        except Exception as e:  # a suite that could not run has failed
            self.count(suite, "could-not-run", False, repr(e))
        if not results and not self.pattern:
            self.count(suite, "empty", False, "has no test")
        with self.lock:
            for name, (ok, output) in results.items():
                if not ok:
                    print(f"--- FAILED: {suite}/{name}\n{output[-20000:]}\n---")
            if results:
                passed = sum(ok for ok, _ in results.values())
                print(f"{suite}: {passed} passed, {len(results) - passed} failed, {time.monotonic() - since:.0f} s", flush=True)
                for line in self.slowest.get(suite, []):
                    print(f"    {line}")

    def run(self):
        beside = threading.Thread(target=lambda: [self.run_suite(s) for s in BESIDE], daemon=True)
        for suite in SUITES:
            if suite == "machine":
                beside.start()
            if suite not in BESIDE:
                self.run_suite(suite)
        beside.join()

    def clean(self):
        for child in list(self.children):
            self.end(child)
        shutil.rmtree(self.work, ignore_errors=True)
        if self.work.exists():
            self.count("build", "cleanup", False, f"{self.work} cannot be removed")

    def tell(self):
        ends = [(f"{suite}/{name}", *end) for suite, results in self.results.items() for name, end in results.items()]
        failed = [(name, output) for name, ok, output in ends if not ok]
        for name, output in failed:
            print(f"FAILED {name}: {' '.join(output.split())[:300]}")  # logs are often cut to their end
        if not ends:
            print(f"No test has {self.pattern!r} in its name.")
        print(f"{len(ends) - len(failed)} passed, {len(failed)} failed", flush=True)
        return 1 if failed or not ends else 0


def main(argv):
    if len(argv) > 2 or len(argv) == 2 and argv[1].startswith("-"):
        print("tests/all [PATTERN], a part of \"suite/test\". Suites: " + " ".join(SUITES))
        return 2
    os.umask(0o022)
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda number, frame: sys.exit(128 + number))
    run = Run(argv[1] if len(argv) == 2 else "")
    try:
        run.run()
    finally:
        run.clean()
    return run.tell()


sys.exit(main(sys.argv))
