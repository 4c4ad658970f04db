"""Holds a bill of materials against the schema of CycloneDX, which the project's own library for Python brings along.

usage: validate.py SBOM.json

Also wrong: a licence that is no SPDX expression, a reference to nothing, two components of one name. Exit 0 valid, 1 not.
"""

import json
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import ExpressionError, get_spdx_licensing


def is_licence(expression):
    """Whether it is an SPDX expression of known licences."""
    try:
        return get_spdx_licensing().parse(expression, validate=True) is not None
    except ExpressionError:
        return False


def faults(text):
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        return [str(error)]
    sbom, found = json.loads(text), []
    refs = [part["bom-ref"] for part in sbom["components"]]
    known = {*refs, sbom["metadata"]["component"]["bom-ref"]}
    found += [f"`{ref}` is there twice" for ref in sorted(set(refs)) if refs.count(ref) > 1]
    for entry in sbom["dependencies"]:
        found += [f"`{ref}` is no component" for ref in [entry["ref"], *entry["dependsOn"]] if ref not in known]
    for part in sbom["components"]:
        for licence in part.get("licenses", []):
            if "expression" in licence and not is_licence(licence["expression"]):
                found.append(f"`{part['name']}`: `{licence['expression']}` is no SPDX expression")
    return found


def main():
    if len(sys.argv) != 2:
        print(__doc__.strip(), file=sys.stderr)
        sys.exit(2)
    text = Path(sys.argv[1]).read_text()
    # What a check does not refuse, it does not check. One component, because the schema takes its time.
    sbom = json.loads(text)
    part = sbom["components"][0]
    small = {**sbom, "components": [part], "dependencies": []}
    planted = [
        {"bomFormat": "SPDX"},
        {"components": [{"type": "crate", "name": "x", "bom-ref": "x"}]},
        {"components": [part, part | {"description": "again"}]},
        {"components": [part | {"licenses": [{"expression": "MIT OR"}]}]},
        {"components": [part | {"licenses": [{"expression": "MITT"}]}]},
        {"dependencies": [{"ref": "pkg:cargo/gone@1.0.0", "dependsOn": []}]},
    ]
    if faults(json.dumps(small)) or not all(faults(json.dumps(small | fault)) for fault in planted):
        sys.exit("error: a planted fault of a bill of materials went unnoticed")
    wrong = faults(text)
    for fault in wrong:
        print(f"error: {sys.argv[1]}: {fault}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
