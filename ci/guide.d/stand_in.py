#!/usr/bin/env python3
"""Stands in for a program while ci/guide runs the commands of a page: obeys the page's comments, and notes what it did."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["GUIDE_STATE"])
PROGRAMS = ["train", "export", "deploy", "fixtures"]


def note(command, seconds, note, rules):
    with (STATE / "journal").open("a") as journal:
        journal.write(json.dumps({"command": command, "seconds": seconds, "note": note, "rules": rules}) + "\n")


def spelled(flag):
    """A flag without its value, spelled with dashes."""
    return flag.split("=")[0].replace("_", "-")


def changed(arguments, flags):
    """The arguments with these flags in place of those of the same name."""
    arguments, groups = list(arguments), []
    for word in shlex.split(flags):
        if word.startswith("-") or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    for flag, *values in groups:
        for at in [at for at, word in enumerate(arguments) if spelled(word) == spelled(flag) and word.startswith("-")][::-1]:
            del arguments[at : at + 1 + (0 if "=" in arguments[at] else len(values))]
        arguments += [flag, *values]
    return arguments


def serve(command, text):
    """Starts a program that runs on, and waits until it has printed `text`."""
    number = len(list(STATE.glob("serves-*.pid")))
    pid, out, code = (STATE / f"serves-{number}.{end}" for end in ("pid", "out", "code"))
    # Its own exit code is written by a shell that waits for it, as nobody else is its parent.
    script = 'out=$1 pid=$2 code=$3; shift 3; "$@" >"$out" 2>&1 & echo $! >"$pid.new"; mv "$pid.new" "$pid"; wait $!; echo $? >"$code"'
    subprocess.Popen(
        ["bash", "-c", script, "serves", out, pid, code, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if out.exists() and text in out.read_text(errors="replace"):
            return
        if code.exists():
            break
        time.sleep(0.05)
    said = out.read_text(errors="replace") if out.exists() else ""
    if code.exists():
        pid.unlink()
    sys.exit(f"{shlex.join(command)} did not print `{text}`:\n{said}")


def main():
    name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    if "/" in sys.argv[0] and Path(sys.argv[0]).parent.name == "ci":
        note(shlex.join([f"ci/{name}", *arguments]), 0, "skipped: CI runs this script itself, or says in ci/test why not", [])
        return 0
    if name == "cargo":
        if arguments[:1] and arguments[0] in PROGRAMS:
            name, *arguments = arguments
        else:
            note(shlex.join([name, *arguments]), 0, "skipped: cargo compiles or formats; other stages of CI do that", [])
            return 0
    if name == "pip":
        note(shlex.join([name, *arguments]), 0, "skipped: pip changes the machine; scripts of CI install what they need", [])
        return 0
    if name == "pidof":
        running = [pid.read_text().strip() for pid in sorted(STATE.glob("serves-*.pid")) if not pid.with_suffix(".code").exists()]
        print(*running)
        return 0 if running else 1
    words, said, used, expected, text = [name, *arguments], [], [], 0, None
    for verb, prefix, rest, key in json.loads((STATE / "rules.json").read_text()):
        if words[: len(prefix)] != prefix:
            continue
        used.append(key)
        if verb == "skip":
            note(shlex.join(words), 0, f"skipped: {rest}", used)
            return 0
        elif verb == "set":
            flags = rest.replace("{port}", os.environ["GUIDE_PORT"])
            arguments = changed(arguments, flags)
            said.append(f"set {rest}")
        elif verb == "ends":
            expected = int(rest)
            said.append(f"ends with {rest}")
        else:
            text = rest
    if name == "curl":
        # The service listens where nobody else does, and an answer that is an error is one.
        arguments = ["--fail-with-body", *(word.replace(":8080", f":{os.environ['GUIDE_PORT']}") for word in arguments)]
    # A program that is not ours is the one behind this stand-in in the path.
    program = Path(os.environ["GUIDE_PROGRAMS"]) / name if name in PROGRAMS else shutil.which(name, path=os.environ["GUIDE_PATH"])
    start = time.monotonic()
    if text is not None:
        serve([str(program), *arguments], text)
        code = 0
    else:
        code = subprocess.run([program, *arguments]).returncode
    note(shlex.join(words), time.monotonic() - start, "; ".join(said), used)
    if code == expected:
        return 0
    print(f"{shlex.join(words)} ended with {code}, not {expected}", file=sys.stderr)
    return code or 1


sys.exit(main())
