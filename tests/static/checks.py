# SPDX-License-Identifier: Apache-2.0
"""Static checks: checks.py --list | NAME BUILD. Each prints what is wrong and exits with 1, or says nothing."""

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
    return wrong if verbs and options else ["no verbs or options found in src/cli/main.c"]


def check_licence_lines(_):
    without = (".txt", ".md", ".ini", ".inc", ".app")
    sources = [n for n in files("src", "tests", "units", "man", "catalog") if not n.endswith(without)]
    return [f"{n}: no SPDX-License-Identifier" for n in sources if "SPDX-License-Identifier" not in text(n)[:400]]


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
