"""What of others is in our programs: a bill of materials and the texts of the licences, as ci/package puts into its archives.

usage: third_party.py TARGET FOLDER NAME VERSION PROGRAM ...

Writes FOLDER/sbom.cdx.json, CycloneDX 1.6, and FOLDER/THIRD-PARTY.txt for the PROGRAMs in FOLDER, which were built for
TARGET, a triple of Rust's. Both list the crates that cargo links into them, and say what a build script compiles from the
sources of others (SQLite); what is needed only to build is left out. The same sources give the same bytes: the time is
that of the last commit (SOURCE_DATE_EPOCH).
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(r"^(\d+)(\S+) v(\S+)(?: \((?!\*)(.*?)\))?")
LICENCE = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense|authors|patents)", re.IGNORECASE)
# A file of licences.rs is none.
CODE = (".c", ".h", ".html", ".json", ".py", ".rs", ".s", ".sh", ".toml")
# Features of the programs that ci/package builds.
FEATURES = {"deploy": "deploy/rten"}
# Where a crate compiles the sources of somebody else: the file that names the version, how, and what that is.
SQLITE = ("sqlite3/sqlite3.h", re.compile(r'#define SQLITE_VERSION\s+"([\d.]+)"'), "blessing")


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def output(*command):
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if run.returncode:
        sys.exit(2)
    return run.stdout


def features(programs):
    """How cargo is told the features that the programs are built with."""
    found = [FEATURES[program] for program in programs if program in FEATURES]
    return ["--features", ",".join(found)] if found else []


def linked(programs, target):
    """The crates that are linked: (name, version) to the crates each names; and which of them lie in this repository."""
    packages = [word for program in programs for word in ("--package", program)] + features(programs)
    tree = output(
        "cargo", "tree", "--locked", "--target", target, "--edges", "normal,no-proc-macro", "--prefix", "depth", *packages
    )
    edges, ours, path = {}, set(), []
    for line in tree.splitlines():
        if not (match := LINE.match(line)):
            continue
        depth, crate = int(match[1]), (match[2], match[3])
        del path[depth:]
        if path:
            edges[path[-1]].add(crate)
        path.append(crate)
        edges.setdefault(crate, set())
        if (match[4] or "").startswith("/"):
            ours.add(crate)
    return edges, ours


def texts(folder, named):
    """The texts of licences in a crate's sources, those of what it includes among them, by the name of the file."""
    paths = [path for path in sorted(folder.rglob("*")) if LICENCE.match(path.name) and path.suffix not in CODE]
    for place in ("LICENSES", "LICENCES", "licenses"):
        paths += sorted((folder / place).glob("*"))
    paths += [folder / named] if named else []
    found = {path.resolve(): path.read_text(errors="replace").strip() for path in paths if path.is_file()}
    return [text for text in dict.fromkeys(found.values()) if text]


def expression(licence):
    """An SPDX expression; the old form A/B means OR."""
    return re.sub(r"\s*/\s*", " OR ", licence or "")


def general(licence):
    """The text of a licence for a crate that has none in its sources."""
    ids = set(re.findall(r"[\w.+-]+", licence)) - {"OR", "AND", "WITH"}
    if "Apache-2.0" in ids:
        return (ROOT / "LICENSE-APACHE").read_text().strip()
    if "MIT" in ids:
        mine = (ROOT / "LICENSE-MIT").read_text()
        return re.sub(r"Copyright.*", "Copyright (c) the authors of the crate", mine).strip()
    return None


def sqlite(folder):
    name, pattern, licence = SQLITE
    version = pattern.search((folder / name).read_text(errors="replace"))
    if not version:
        fail(f"`{folder / name}` names no version of SQLite")
    return {
        "type": "library", "bom-ref": f"pkg:generic/sqlite@{version[1]}", "name": "sqlite", "version": version[1],
        "licenses": [{"license": {"id": licence}}], "purl": f"pkg:generic/sqlite@{version[1]}",
    }


def reference(crate, ours):
    name, version = crate
    return f"vitrine/{name}@{version}" if crate in ours else f"pkg:cargo/{name}@{version}"


def component(crate, package, ours, checksum):
    name, version = crate
    found = {"type": "library", "bom-ref": reference(crate, ours), "name": name, "version": version}
    if package["description"]:
        found["description"] = " ".join(package["description"].split())
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if licence := expression(package["license"]):
        found["licenses"] = [{"expression": licence}]
    if crate not in ours:
        found["purl"] = reference(crate, ours)
        if (package["repository"] or "").startswith("https://"):
            found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def compiler():
    """Rust's standard library, which is in every program."""
    version = re.search(r"^release: (\S+)", output("rustc", "-vV"), re.MULTILINE)[1]
    return {
        "type": "library", "bom-ref": f"rust-std@{version}", "name": "rust-std", "version": version,
        "description": "The Rust standard library", "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "externalReferences": [{"type": "vcs", "url": "https://github.com/rust-lang/rust"}],
    }


def bill(folder, name, version, programs, edges, ours, packages, locked, std, more):
    """The bill of materials; `more` is what lies in crates: crate to component."""
    time = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    tops = [crate for crate in edges if crate[0] in programs and crate in ours]
    archive = f"vitrine/archive/{name}@{version}"
    parts = []
    for program in programs:
        digest = hashlib.sha256((folder / program).read_bytes()).hexdigest()
        parts.append({"type": "file", "bom-ref": f"{archive}/{program}", "name": program, "hashes": [{"alg": "SHA-256", "content": digest}]})
    components = [component(crate, packages[crate], ours, locked.get(crate)) for crate in sorted(edges)]
    components += [std, *(more[crate] for crate in sorted(more))]
    depends = [{"ref": archive, "dependsOn": sorted(reference(crate, ours) for crate in tops)}]
    for crate in sorted(edges):
        below = {reference(other, ours) for other in edges[crate]} | {std["bom-ref"]}
        if crate in more:
            below.add(more[crate]["bom-ref"])
        depends.append({"ref": reference(crate, ours), "dependsOn": sorted(below)})
    sbom = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {
            "timestamp": time,
            "component": {
                "type": "application", "bom-ref": archive, "name": name, "version": version,
                "licenses": [{"expression": "MIT OR Apache-2.0"}], "components": parts,
            },
        },
        "components": components,
        "dependencies": depends,
    }
    # A number of its own for every content.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(sbom, sort_keys=True))
    sbom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", **sbom}
    (folder / "sbom.cdx.json").write_text(json.dumps(sbom, indent=1) + "\n")


def licences(folder, name, foreign, packages, std, more):
    """A table of crates with the numbers of their texts, and the texts, each once."""
    numbers, rows, lacking = {}, [], []

    def number(text):
        return numbers.setdefault(text, len(numbers) + 1)

    for crate in sorted(foreign):
        package = packages[crate]
        own = texts(Path(package["manifest_path"]).parent, package["license_file"])
        licence = expression(package["license"]) or f"see {package['license_file']}"
        if not own:
            text = general(licence)
            if text is None:
                lacking.append(f"`{crate[0]}` {crate[1]} ({licence})")
                continue
            own = [text]
        rows.append((*crate, licence, ", ".join(str(number(text)) for text in own), package["repository"] or ""))
    if lacking:
        fail(f"no text of a licence for {', '.join(lacking)}")
    rows.append((std["name"], std["version"], "MIT OR Apache-2.0", str(number(general("Apache-2.0"))), "https://github.com/rust-lang/rust"))
    rows += [(part["name"], part["version"], "public domain", "-", "https://sqlite.org") for part in more.values()]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name} contains these libraries of others. The numbers are those of the licences below, as the sources of each",
        "library have them; where those have none, it is the general text of the licence they name.", "",
    ]
    lines += ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]).rstrip() for row in rows]
    for text, at in numbers.items():
        lines += ["", f"{'=' * 20} {at} {'=' * 20}", "", text]
    (folder / "THIRD-PARTY.txt").write_text("\n".join(lines) + "\n")
    return len(rows), len(numbers)


def main():
    if len(sys.argv) < 6:
        print(__doc__.strip(), file=sys.stderr)
        sys.exit(2)
    target, folder, name, version, *programs = sys.argv[1:]
    folder = Path(folder)
    edges, ours = linked(programs, target)
    metadata = json.loads(output(
        "cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target,
        *features(programs),
    ))
    packages = {(package["name"], package["version"]): package for package in metadata["packages"]}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    locked = {(entry["name"], entry["version"]): entry.get("checksum") for entry in lock}
    more = {crate: sqlite(Path(packages[crate]["manifest_path"]).parent) for crate in edges if crate[0] == "libsqlite3-sys"}
    std = compiler()
    bill(folder, name, version, programs, edges, ours, packages, locked, std, more)
    rows, count = licences(folder, name, set(edges) - ours, packages, std, more)
    print(f"{folder / 'sbom.cdx.json'}: {len(edges)} crates, {len(ours)} of them ours; {rows} others with {count} texts of licences")


if __name__ == "__main__":
    main()
