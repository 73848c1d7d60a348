# SPDX-License-Identifier: Apache-2.0
"""Static checks: checks.py --list | NAME BUILD. Each prints what is wrong and exits with 1, or says nothing."""

import json
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
LAYERS = {  # folder below src/: what it may include
    "base": {"base"},
    "journal": {"base", "journal"},
    "bus": {"base", "bus"},
    "node": {"base", "node"},
    "archive": {"base", "archive"},
    "package": {"base", "package"},
    "steps": {"base", "journal", "bus", "node", "archive", "package", "steps"},
    "txn": {"base", "journal", "bus", "node", "archive", "package", "steps", "txn"},
    "helper": {"base", "journal", "bus", "node", "archive", "package", "steps", "txn", "helper"},
    "cli": {"base", "journal", "bus", "node", "archive", "package", "steps", "txn", "cli"},
}


def files(*patterns):
    listed = subprocess.run(["git", "-c", f"safe.directory={TOP}", "ls-files", "-z", "--cached", "--others", "--exclude-standard",
                             "--", *patterns], cwd=TOP, check=True, capture_output=True, text=True).stdout
    return [n for n in listed.split("\0") if n and (TOP / n).exists()]


def tool(argv, **kwargs):
    """What a tool says if it is not content."""
    p = subprocess.run([str(a) for a in argv], cwd=TOP, capture_output=True, text=True, check=False, **kwargs)
    return [] if p.returncode == 0 else (p.stdout + p.stderr).splitlines() or [f"{argv[0]} failed with {p.returncode}"]


def text(name):
    return (TOP / name).read_text()


def check_clang_format(_):
    return tool(["clang-format", "--dry-run", "-Werror", *files("*.c", "*.h")])


def check_clang_tidy(build):
    flags = subprocess.run(["pkg-config", "--cflags", "libsystemd", "libarchive", "libcrypto", "inih", "json-c", "libmosquitto",
                            "libcurl"], check=True, capture_output=True, text=True).stdout.split()
    sources = files("src/**/*.c")
    flags = ["--", "-std=gnu17", "-D_GNU_SOURCE", "-DHAVE_CONFIG_H", f"-I{TOP}/src", f"-I{build}", "-include", "config.h",
             "-DLIBEXECDIR=\"/usr/libexec/emqx-upgrade\"", *flags]
    halves = [sources[0::2], sources[1::2]]
    runs = [subprocess.Popen(["clang-tidy", "--quiet", "--warnings-as-errors=*", *half, *flags], cwd=TOP, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for half in halves]
    said = [r.communicate()[0] for r in runs]
    return [line for r, s in zip(runs, said) if r.returncode for line in s.splitlines()]


def check_cppcheck(build):
    return tool(["cppcheck", "--quiet", "--std=c11", "--enable=warning,performance,portability", "--inline-suppr",
                 "--error-exitcode=1", "-j2", "-Isrc", f"--include={build}/config.h", "--suppress=missingIncludeSystem",
                 "--suppress=unknownMacro",
                 # Scope-bound owners (__attribute__((cleanup))) are not known to it; AddressSanitizer looks for leaks.
                 "--suppress=memleak", "--suppress=resourceLeak", "--suppress=memleakOnRealloc", "--suppress=nullPointerRedundantCheck", "-D_GNU_SOURCE", "-DLIBEXECDIR=\"/\"", *files("src/**/*.c")])


def check_shellcheck(_):
    scripts = [n for n in files() if re.match(r"#!.*\b(ba)?sh\b", (TOP / n).read_bytes()[:64].decode(errors="replace").split("\n")[0])]
    return tool(["shellcheck", *scripts])


def check_python_compiles(_):
    pages = [n for n in files() if n.endswith(".py") or b"/python3" in (TOP / n).read_bytes()[:32].split(b"\n")[0]]
    wrong = []
    for name in pages:
        try:
            compile(text(name), name, "exec")
        except SyntaxError as e:
            wrong.append(f"{name}: {e}")
    return wrong


def check_man_pages(_):
    pages = files("man/*.[1-8]")
    wrong = tool(["mandoc", "-Tlint", "-W", "warning", *pages])
    for page in pages:
        said = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page], cwd=TOP, check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              env={"MANROFFSEQ": "", "MANWIDTH": "80", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}).stderr
        wrong += said.splitlines()
    return wrong


def check_layers(_):
    wrong = []
    for name in files("src/*/*.c", "src/*/*.h"):
        folder = name.split("/")[1]
        for included in re.findall(r'^#include "([a-z]+)/', text(name), re.M):
            if included not in LAYERS[folder]:
                wrong.append(f"{name} includes {included}/")
    return wrong


def check_catalog(_):
    events = dict(re.findall(r'X\((\w+),\s+"([0-9a-f]{32})"', text("src/journal/events.h")))
    catalog = re.findall(r"^-- ([0-9a-f]{32})", text("catalog/emqx-upgrade.catalog"), re.M)
    page = text("man/emqx-upgrade.journal-fields.7")
    wrong = [f"{n}: no entry in the catalog" for n, i in events.items() if i not in catalog]
    wrong += [f"{i}: in the catalog, but no event" for i in catalog if i not in events.values()]
    wrong += [f"{n}: not in emqx-upgrade.journal-fields(7)" for n, i in events.items() if i not in page]
    sent = "".join(text(n) for n in files("src/steps/*.c", "src/txn/*.c", "src/helper/*.c", "src/cli/*.c"))
    for name in files("catalog/emqx-upgrade.*.catalog"):  # translations
        translated = re.findall(r"^-- ([0-9a-f]{32})", text(name), re.M)
        wrong += [f"{name}: {n} is not in it" for n, i in events.items() if i not in translated]
        wrong += [f"{name}: {i} is no event" for i in translated if i not in events.values()]
        wrong += [f"{name}: not in catalog/Makefile.inc"] if name not in text("catalog/Makefile.inc") else []
    return wrong + [f"{n}: never sent" for n in events if f"EVENT_{n}" not in sent]


def check_configuration_keys(_):
    keys = re.findall(r'^\s+KEY\("\w+", "(\w+)"', text("src/steps/config.c"), re.M)
    places = ("man/emqx-upgrade.conf.5", "units/emqx-upgrade.conf")
    wrong = [f"{k}=: not in {place}" for k in keys for place in places if f"{k}=" not in text(place)]
    return wrong if keys else ["no key found in src/steps/config.c"]


def check_verbs_and_options(_):
    source, page = text("src/cli/main.c"), text("man/emqx-upgrade.1")
    verbs = re.findall(r'^\s*\{ "(\w+)", \d, \d, verb_', source, re.M)
    options = re.findall(r'\{ "([a-z-]+)", (?:no|required)_argument', source)
    wrong = [f"{v}: not in emqx-upgrade(1)" for v in verbs if not re.search(rf"\b{v}\b", page)]
    wrong += [f"--{o}: not in emqx-upgrade(1)" for o in options if o not in page.replace("\\", "")]
    said = source[source.index("static void help("):source.index("static ExitStatus bad_usage(")]
    wrong += [f"{v}: not in --help" for v in verbs if not re.search(rf'"  {v}\b', said)]
    wrong += [f"--{o}: not in --help" for o in options if f"--{o}" not in said]
    for shell in files("completions/*emqx-upgrade*"):
        wrong += [f"{v}: not in {shell}" for v in verbs if not re.search(rf"\b{v}\b", text(shell))]
    return wrong if verbs and options else ["no verbs or options found in src/cli/main.c"]


def check_exit_statuses_fields_and_files(_):
    """What users go by, and the code has, is in the manual."""
    manual = {name: text(name).replace("\\", "") for name in files("man/*.[1-8]")}
    service, fields = manual["man/emqx-upgrade@.service.8"], manual["man/emqx-upgrade.journal-fields.7"]
    statuses = re.findall(r"^\s+EXIT_\w+ = (\d+),", text("src/txn/engine.h"), re.M)
    wrong = [f"exit status {s}: not in {n}" for n in ("man/emqx-upgrade@.service.8", "man/emqx-upgrade.1") for s in statuses
             if f"\n.It {s}\n" not in manual[n][manual[n].index(".Sh EXIT STATUS"):]]
    sent = re.findall(r'add_(?:text|number)\(e, "([A-Z_]+)"', text("src/journal/log.c"))
    wrong += [f"{f}: a journal field, not in emqx-upgrade.journal-fields(7)" for f in sent if f not in fields]
    wrong += [f"{s}: a step, not in emqx-upgrade@.service(8)" for s in re.findall(r'\.name = "(\w+)"', text("src/steps/table.c"))
              if f"Cm {s}" not in service]
    sources = "".join(text(n) for n in files("src/*/*.[ch]"))
    paths = {p.rstrip("/") for p in re.findall(r'"(/(?:etc|var/lib|run)/emqx-upgrade[\w./-]*)"', sources)}
    paths |= {"/var/lib/emqx-upgrade/" + p.split("/")[0] for p in re.findall(r'STATE_DIR "/(?!var/)([\w.-]+)', sources)}
    wrong += [f"{p}: a file, in no manual page" for p in sorted(paths) if not any(p in page for page in manual.values())]
    return wrong if statuses and sent and paths else ["no exit status, field or file found"]


def check_schemas(_):
    """Each is valid, and what is written into records is in theirs, with a description."""
    import jsonschema

    wrong = []
    for name in files("schema/*.json"):
        schema = json.loads(text(name))
        jsonschema.Draft202012Validator.check_schema(schema)
        wrong += [f"{name}: not in schema/Makefile.inc"] if name not in text("schema/Makefile.inc") else []
        wrong += [f"{name}: not in emqx-upgrade(1)"] if pathlib.PurePath(name).name not in text("man/emqx-upgrade.1") else []
    record = json.loads(text("schema/record.schema.json"))
    plan = record["properties"]["plan"]["properties"]
    written = re.findall(r"^\s+(?:TEXT|NUMBER|OPTIONAL_NUMBER)\((\w+)\),", text("src/steps/plan.c"), re.M)
    wrong += [f"{f}: a field of the plan, not in record.schema.json" for f in written if f not in plan]
    wrong += [f"{f}: in record.schema.json, no field of the plan" for f in plan
              if f not in [*written, "trees", "checks", "reserves", "adapted", "members", "mounts", "kept_aside", "log_marks",
                           "baseline"]]
    keys = re.findall(r'json_add\w*\(\w+, "(\w+)"', text("src/txn/txn.c") + text("src/txn/status.c"))
    keys += re.findall(r'^\s+\{ "(\w+)", ', text("src/txn/txn.c"), re.M)
    known = {*record["properties"], *record["properties"]["steps"]["items"]["properties"],
             *record["properties"]["progress"]["properties"]}
    wrong += [f"{k}: a field of records, not in record.schema.json" for k in keys if k not in known]
    for verb in ("plan", "backups"):
        schema = json.loads(text(f"schema/{verb}.schema.json"))
        objects = [schema, *schema.get("properties", {}).values()]
        known = {name for o in objects for name in {**o.get("properties", {}), **o.get("items", {}).get("properties", {})}}
        printed = set(re.findall(r'json_add\w*\(\w+, "(\w+)"', text(f"src/cli/{verb}.c")))
        wrong += [f"{k}: printed by {verb} --json, not in {verb}.schema.json" for k in sorted(printed - known)]
        wrong += [f"{k}: in {verb}.schema.json, not printed by {verb} --json" for k in sorted(known - printed)]
    return wrong


def check_licence_lines(_):
    without = (".txt", ".md", ".ini", ".inc", ".app", ".xz")
    sources = [n for n in files("src", "tests", "units", "man", "catalog", "schema") if not n.endswith(without)]
    return [f"{n}: no SPDX-License-Identifier" for n in sources if "SPDX-License-Identifier" not in text(n)[:400]]


#: What systemd-analyze security would rather have, and why our units do without it.
EXPOSED = {
    "UserOrDynamicUser": "the steps' units are started with PID 1's leave, and the node's files are anybody's",
    "SystemCallFilter_privileged": "as root; the capabilities say what may be done",
    "RootDirectoryOrRootImage": "it is about this host",
    "CapabilityBoundingSet_CAP_DAC_FOWNER_IPC_OWNER": "CAP_DAC_READ_SEARCH alone: configuration and data of the node's user",
    "CapabilityBoundingSet_CAP_KILL": "processes of the node that survive its stop",
    "CapabilityBoundingSet_CAP_SYS_PTRACE": "to read /proc/PID/exe, by which they are known",
    "ProtectControlGroups": "mounts /proc anew: see conductor.inc; ReadOnlyPaths=/sys instead",
    "ProtectKernelTunables": "the same; ReadOnlyPaths=/proc/sys instead",
    "ProtectProc": "the node's processes, and who holds the package manager's lock",
    "ProcSubset": "the boot ID and mountinfo",
    "PrivateMounts": "ProtectSystem= and PrivateTmp= make it so; only the setting itself is not there",
    "RestrictAddressFamilies_AF_UNIX": "the system bus and the journal",
    "RestrictAddressFamilies_AF_INET_INET6": "the probes of the node",
    "PrivateNetwork": "the probes of the node",
    "IPAddressDeny": "the node may listen on any address of this host",
    "ProtectHome": "a node extracted from a zip may be there; read-only",
    "PrivateUsers": "owners are backed up and restored as they are",
    "DeviceAllow": "char-rtc, which ProtectClock= allows to be read",
}


def check_unit_exposure(build):
    """Nothing is opened beside what EXPOSED tells the reason of. That systemd takes the units at all, debian/tests asks."""
    wrong, seen = [], set()
    for unit in sorted(pathlib.Path(build, "units").glob("*.service")):
        said = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", "--json=short", unit], check=False,
                              capture_output=True, text=True)
        try:
            rows = json.loads(said.stdout)
        except ValueError:
            return [f"systemd-analyze security {unit.name}: {said.stdout}{said.stderr}"]
        open_ = {r["json_field"] for r in rows if r["set"] is False}
        seen |= open_
        wrong += [f"{unit.name}: {field} is open, and EXPOSED does not say why" for field in sorted(open_ - set(EXPOSED))]
    return wrong + [f"EXPOSED tells of {field}, which is not open" for field in sorted(set(EXPOSED) - seen)]


def check_lintian(build):
    """Of the package that a release would be."""
    out = pathlib.Path(build).parent / "lintian"
    out.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", pathlib.Path(build).parent / "tree", out / "tree"], check=True)
    wrong = tool(["sh", "-c", f"cd {out}/tree && dpkg-buildpackage -us -uc -b -j2"])
    return wrong or tool(["lintian", "--fail-on", "error,warning", "--allow-root", *out.glob("*.changes")])


CHECKS = {name.removeprefix("check_").replace("_", "-"): f for name, f in list(globals().items()) if name.startswith("check_")}

if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print("\n".join(CHECKS))
        sys.exit(0)
    found = CHECKS[sys.argv[1]](pathlib.Path(sys.argv[2]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
