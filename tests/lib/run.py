# SPDX-License-Identifier: Apache-2.0
"""Runs the suites and counts: every case of a unit test, every pytest test and every static check is one. What is
skipped, crashes, or could not run has failed."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

TOP = pathlib.Path(__file__).resolve().parents[2]
UNIT_TIMEOUT_SEC, SYSTEM_TIMEOUT_SEC = 900, 1800


class Run:
    def __init__(self, pattern):
        self.pattern = pattern
        self.passed, self.failed = 0, []
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="emqx-upgrade-all.", dir="/var/tmp"))

    def wants(self, suite, name=""):
        return not self.pattern or self.pattern in f"{suite}/{name}"

    def count(self, suite, name, ok, output=""):
        if ok:
            self.passed += 1
        else:
            self.failed.append(f"{suite}/{name}")
            print(f"--- FAILED: {suite}/{name}\n{output[-6000:]}", flush=True)

    def call(self, argv, timeout=UNIT_TIMEOUT_SEC, **kwargs):
        """(ok, output) of a program; a time-out is a failure."""
        try:
            p = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout, check=False, **kwargs)
            return p.returncode == 0, p.stdout
        except subprocess.TimeoutExpired as e:
            return False, f"{(e.stdout or b'').decode(errors='replace')}\nran longer than {timeout} s"

    # --- the tree, built away from it ---

    def export(self):
        """A copy of the tree as git knows it, with configure made: the checkout stays as it is."""
        tree = self.work / "tree"
        tree.mkdir()
        listed = subprocess.run(["git", "-c", f"safe.directory={TOP}", "ls-files", "-z", "--cached", "--others",
                                 "--exclude-standard"], cwd=TOP, check=True, capture_output=True).stdout
        names = b"\0".join(n for n in listed.split(b"\0") if n and (TOP / os.fsdecode(n)).exists())
        tar = subprocess.run(["tar", "c", "--null", "-T", "-"], cwd=TOP, input=names, check=True, capture_output=True).stdout
        subprocess.run(["tar", "x", "-C", tree], input=tar, check=True)
        return tree

    def configure(self, name, *options):
        build = self.work / name
        build.mkdir()
        ok, output = self.call([self.tree / "configure", "-q", *options], cwd=build)
        return build, ok, output

    def unit_tests(self, suite, build):
        """make check; cmocka tells of every case by itself."""
        env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
        ok, output = self.call(["make", "-j2", "check"], cwd=build, env=env)
        cases = 0
        for log in sorted(build.glob("tests/unit/test-*.log")):
            text = log.read_text(errors="replace")
            for verdict, name in re.findall(r"^\[ +(OK|FAILED) +\] ([A-Za-z0-9_]+)$", text, re.M):
                if self.wants(suite, f"{log.stem}:{name}"):
                    self.count(suite, f"{log.stem}:{name}", verdict == "OK", text)
                    cases += 1
            trs = log.with_suffix(".trs").read_text() if log.with_suffix(".trs").exists() else ""
            if ":test-result: PASS" not in trs and f"FAILED  ] " not in text:
                self.count(suite, log.stem, False, text)  # crashed, or a leak
        if not ok and not any(f.startswith(f"{suite}/") for f in self.failed) or cases == 0 and self.wants(suite):
            self.count(suite, "make-check", False, output)

    # --- suites ---

    def suite_build(self):
        self.build, ok, output = self.configure("build", "CFLAGS=-O2 -g -Wall -Wextra -Werror")
        if ok:
            ok, output = self.call(["make", "-j2"], cwd=self.build)
        self.count("build", "warnings-are-errors", ok, output)

    def suite_unit(self):
        self.unit_tests("unit", self.build)

    def suite_sanitizers(self):
        build, ok, output = self.configure("sanitizers", "--enable-sanitizers", "CFLAGS=-O1 -g -Werror")
        if not ok:
            self.count("sanitizers", "configure", False, output)
        else:
            self.unit_tests("sanitizers", build)

    def suite_distcheck(self):
        ok, output = self.call(["make", "-j2", "distcheck", "TESTS="], cwd=self.build)
        self.count("distcheck", "distcheck", ok, output)

    def suite_static(self):
        ok, output = self.call([sys.executable, TOP / "tests/static/checks.py", "--list"], timeout=60)
        for name in output.split() if ok else ["list"]:
            if self.wants("static", name):
                ok, output = self.call([sys.executable, TOP / "tests/static/checks.py", name, self.build])
                self.count("static", name, ok, output)

    def pytest(self, suite, workers):
        report = self.work / f"{suite}.xml"
        argv = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}", "-n", workers, TOP / "tests" / suite]
        if self.pattern and self.pattern != suite and "/" not in self.pattern and self.pattern not in suite:
            argv += ["-k", self.pattern]
        elif self.pattern and "/" in self.pattern:
            argv += ["-k", self.pattern.split("/", 1)[1]]
        ok, output = self.call(argv, timeout=SYSTEM_TIMEOUT_SEC, cwd=TOP / "tests")
        cases = 0
        if report.exists():
            for case in ET.parse(report).getroot().iter("testcase"):
                trouble = [c for c in case if c.tag in ("failure", "error", "skipped")]
                text = "".join(f"{c.get('message')}\n{c.text}" for c in trouble) + (case.findtext("system-out") or "")
                self.count(suite, f"{case.get('classname').rsplit('.', 1)[-1]}::{case.get('name')}", not trouble, text)
                cases += 1
        if cases == 0 and not self.pattern or not ok and report.exists() is False:
            self.count(suite, "pytest", False, output)

    def suite_machine(self):
        self.pytest("machine", 2)

    def suite_node(self):
        self.pytest("node", 2)

    def suite_system(self):
        self.pytest("system", 2)

    def run(self):
        begin = time.monotonic()
        print(f"tree in {self.work}", flush=True)
        self.tree = self.export()
        ok, output = self.call(["autoreconf", "-fi"], cwd=self.tree)
        if not ok:
            self.count("build", "autoreconf", False, output)
        for suite in ("build", "unit", "sanitizers", "static", "distcheck", "machine", "node", "system"):
            of_pytest = suite in ("machine", "node", "system")
            if self.pattern and suite != "build":
                head = self.pattern.split("/", 1)[0]
                if "/" in self.pattern and head != suite:
                    continue
                suites = "build unit sanitizers static distcheck machine node system".split()
                if self.pattern in suites and self.pattern != suite:
                    continue
                if suite == "distcheck" and not self.wants(suite, suite):
                    continue
            since, passed, failed = time.monotonic(), self.passed, len(self.failed)
            try:
                getattr(self, f"suite_{suite}")()
            except Exception as e:  # a suite that could not run has failed
                self.count(suite, "could-not-run", False, repr(e))
            print(f"{suite}: {self.passed - passed} passed, {len(self.failed) - failed} failed in "
                  f"{time.monotonic() - since:.0f} s{'' if not of_pytest else ' (pytest)'}", flush=True)
        shutil.rmtree(self.work, ignore_errors=True)
        for name in self.failed:
            print(f"FAILED {name}")
        print(f"all of it took {time.monotonic() - begin:.0f} s")
        print(f"{self.passed} passed, {len(self.failed)} failed", flush=True)
        return 1 if self.failed or not self.passed else 0


sys.exit(Run(sys.argv[1] if len(sys.argv) > 1 else "").run())
