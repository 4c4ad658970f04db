"""Runs the command blocks of the guide, as `ci/guide --run` asks for.

A block is what Markdown shows as code: indented by four columns, or between fences that name no language, `sh` or `bash`.
The blocks of a page run in order in one folder of its own, each as a script of bash that ends at the first error. The
programs found there are those that were built; `cargo train` is `train`, whatever compiles or installs is passed over.

Comments of a page, which no reader sees, say what a block needs. They count from their place to the end of the page:

    <!-- run: prepare: COMMANDS -->          runs COMMANDS first; $WORLD is the folder that ci/guide.d/world has filled
    <!-- run: skip: REASON -->               the next block is not run
    <!-- run: skip PROGRAM ARGS: REASON -->  commands that begin with these words are not run
    <!-- run: set PROGRAM ARGS: FLAGS -->    they get these flags, in place of those of the same name
    <!-- run: ends PROGRAM ARGS: CODE -->    they have to end with this exit code instead of 0
    <!-- run: serves PROGRAM ARGS: TEXT -->  they run on behind the next blocks as soon as they have printed TEXT

A skip without a reason, words of a comment that fit no command, and a comment that is none of these are errors.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = ["train", "export", "deploy", "fixtures"]
# What the words of a comment may begin with; each gets a stand-in, which obeys the comments.
STAND_INS = [*PROGRAMS, "cargo", "curl", "pidof", "pip"]
# Seconds; a block that takes longer is at fault.
LONGEST_BLOCK = 120
MARK = re.compile(r"<!-- run: *([a-z]+)([^:]*?): *(.*?)\s*-->", re.DOTALL)


class Fault(Exception):
    """A page that cannot be run as it says."""


@dataclass
class Block:
    line: int
    text: str
    prepare: list = field(default_factory=list)
    rules: list = field(default_factory=list)
    skip: str = ""


@dataclass
class Rule:
    verb: str
    words: list
    rest: str
    line: int
    used: bool = False


def blocks(text):
    """The command blocks of a page, each with the comments that count for it. Raises Fault."""
    found, rules, prepare, skip = [], [], [], None
    lines = text.splitlines()
    at = 0

    def add(line, code):
        nonlocal prepare, skip
        found.append(Block(line, code, prepare, list(rules), skip.rest if skip else ""))
        prepare, skip = [], None

    while at < len(lines):
        line, start = lines[at], at + 1
        if line.startswith("<!-- run:"):
            while "-->" not in lines[at]:
                at += 1
                if at == len(lines):
                    raise Fault(f"{start}: a comment without end")
            comment = "\n".join(lines[start - 1 : at + 1])
            match = MARK.fullmatch(comment)
            if not match or match[1] not in ("prepare", "skip", "set", "ends", "serves"):
                raise Fault(f"{start}: `{comment}` is no comment that ci/guide --run knows")
            rule = Rule(match[1], shlex.split(match[2]), match[3], start)
            if not rule.rest:
                raise Fault(f"{start}: nothing after the colon of `{comment}`; a reason, flags, a code or a text is needed")
            if rule.verb == "prepare":
                prepare.append((rule.rest, list(rules)))
            elif rule.words:
                rules.append(rule)
            elif rule.verb == "skip":
                skip = rule
            else:
                raise Fault(f"{start}: `{comment}` names no command")
        elif line.startswith("```"):
            fence, language = re.match("`+", line)[0], line.strip("` ")
            body = []
            at += 1
            while at < len(lines) and not lines[at].startswith(fence):
                body.append(lines[at])
                at += 1
            if language in ("", "sh", "bash"):
                add(start, "\n".join(body))
        elif line.startswith("    ") and (at == 0 or not lines[at - 1].strip() or lines[at - 1].endswith("-->")):
            body = []
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                body.append(lines[at][4:])
                at += 1
            add(start, "\n".join(body).rstrip())
            continue
        at += 1
    if skip or prepare:
        raise Fault(f"{skip.line if skip else len(lines)}: a comment for the next block, and no block follows")
    return found


@dataclass
class Row:
    """A line of the table."""

    page: str
    line: int
    seconds: float
    command: str
    note: str


def free_port():
    with socket.socket() as socket_:
        socket_.bind(("127.0.0.1", 0))
        return socket_.getsockname()[1]


class Page:
    """One page in its folder."""

    def __init__(self, name, text, folder, programs, world):
        self.name, self.folder, self.state = name, folder / "page", folder / "state"
        self.blocks = blocks(text)
        stand_ins = folder / "bin"
        # What a page expects beside it: the scripts of the repository, which CI runs itself.
        scripts = self.folder / "ci"
        for made in (self.folder, self.state, stand_ins, scripts):
            made.mkdir(parents=True)
        for script in (HERE.parent).iterdir():
            if script.is_file() and (os.access(script, os.X_OK) or script.suffix == ".py"):
                (scripts / script.name).symlink_to(HERE / "stand_in.py")
        for program in STAND_INS:
            (stand_ins / program).symlink_to(HERE / "stand_in.py")
        self.rules = {(rule.line, rule.verb): rule for block in self.blocks for rule in block.rules}
        # A home of its own, so that nothing of the machine's owner is read or changed.
        self.environment = {
            "HOME": str(folder / "home"), "LANG": "C.UTF-8", "PATH": f"{stand_ins}:{os.environ['PATH']}", "WORLD": str(world),
            "GUIDE_STATE": str(self.state), "GUIDE_PROGRAMS": str(programs), "GUIDE_PORT": str(free_port()), "GUIDE_PATH": os.environ["PATH"],
        }
        (folder / "home").mkdir()

    def script(self, text, rules):
        """Runs a script in the page's folder. Its exit code, what it printed, and what its commands noted."""
        (self.state / "rules.json").write_text(
            json.dumps([[rule.verb, rule.words, rule.rest, [rule.line, rule.verb]] for rule in rules])
        )
        journal = self.state / "journal"
        journal.write_text("")
        with (self.state / "output").open("w+b") as output:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )
            try:
                code = process.wait(timeout=LONGEST_BLOCK)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = f"none after {LONGEST_BLOCK} seconds"
            output.seek(0)
            said = output.read().decode(errors="replace")
        notes = [json.loads(line) for line in journal.read_text().splitlines()]
        return code, said, notes

    def note_used(self, notes):
        for note in notes:
            for key in note["rules"]:
                self.rules[tuple(key)].used = True

    def stop(self):
        """Ends what still serves. Yields what went wrong with it."""
        for started in sorted(self.state.glob("serves-*.pid")):
            pid, code = int(started.read_text()), started.with_suffix(".code")
            if not code.exists():
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 30
            while not code.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            ended = code.read_text().strip() if code.exists() else "no code"
            if ended != "0":
                if not code.exists():
                    os.kill(pid, signal.SIGKILL)
                yield f"{self.name}: what it serves ended with {ended}:\n{started.with_suffix('.out').read_text()}"

    def run(self):
        """Yields rows of the table and faults, as text."""
        for block in self.blocks:
            if block.skip:
                yield Row(self.name, block.line, 0, block.text.strip().splitlines()[0], f"skipped: {block.skip}")
                continue
            for text, rules in block.prepare:
                code, said, notes = self.script(text, rules)
                self.note_used(notes)
                if code != 0:
                    yield f"{self.name}:{block.line}: what prepares this block ended with {code}:\n{said}"
                    return
            start = time.monotonic()
            code, said, notes = self.script(block.text, block.rules)
            self.note_used(notes)
            for note in notes:
                yield Row(self.name, block.line, note["seconds"], note["command"], note["note"])
            if not notes:
                yield Row(self.name, block.line, time.monotonic() - start, block.text.strip().splitlines()[0], "")
            if code != 0:
                tail = "\n".join(said.splitlines()[-30:])
                last = f" (the last command was `{notes[-1]['command']}`)" if notes else ""
                yield f"{self.name}:{block.line}: this block ended with {code}{last}:\n{tail}"
                return
        for rule in self.rules.values():
            if not rule.used:
                yield f"{self.name}:{rule.line}: no command of the page begins with `{' '.join(rule.words)}`"


def pages(root):
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def run(root, programs, only=(), scratch=None, world=HERE / "world"):
    """Runs the blocks of every page, or of those named, and prints the table. What went wrong, a text each."""
    scratch = scratch or root / ".cache/guide-commands"
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "world").mkdir(parents=True)
    start, rows, faults = time.monotonic(), [], []
    if world:
        path = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        with (scratch / "world.out").open("w") as output:
            if subprocess.run(["bash", world], cwd=scratch / "world", env=path, stdout=output, stderr=output).returncode:
                return [f"{world} failed:\n{(scratch / 'world.out').read_text()}"]
    made = time.monotonic() - start
    for path in pages(root):
        name = str(path.relative_to(root))
        if only and name not in only:
            continue
        try:
            page = Page(name, path.read_text(), scratch / path.stem, programs, scratch / "world")
        except Fault as fault:
            faults.append(f"{name}:{fault}")
            continue
        try:
            for found in page.run():
                (rows if isinstance(found, Row) else faults).append(found)
        finally:
            faults += page.stop()
    print(f"{'block':<28} {'seconds':>7}  command")
    for row in rows:
        command = row.command if len(row.command) <= 84 else f"{row.command[:83]}…"
        print(f"{row.page + ':' + str(row.line):<28} {row.seconds:7.1f}  {command}")
        if row.note:
            print(f"{'':38}{row.note}")
    skipped = sum(row.note.startswith("skipped") for row in rows)
    changed = sum(row.note.startswith("set") for row in rows)
    print(
        f"\n{len(rows) - skipped} commands run, {changed} of them with other flags, {skipped} skipped; "
        f"{time.monotonic() - start:.1f} s, of which {made:.1f} s to prepare"
    )
    return faults


def self_test(scratch):
    """Plants a fault of each kind, and fails if one goes unnoticed or a sound page is at fault."""
    program = "#!/bin/sh\necho $0 \"$@\"\ncase $1 in fail) exit 3;; serve) trap 'exit 0' TERM; while sleep 0.1; do :; done;; esac\n"
    programs = scratch / "programs"
    programs.mkdir(parents=True)
    for name in PROGRAMS:
        (programs / name).write_text(program)
        (programs / name).chmod(0o755)
    sound = (
        "# A\n\n<!-- run: set train reid: --epochs 1 --lr 2 -->\n\n<!-- run: prepare: touch here -->\n\n"
        "    test -e here\n    cargo train reid --epochs=9 x | grep -x '.*reid x --epochs 1 --lr 2'\n\n"
        "<!-- run: skip: a drawing -->\n\n    pictures → matches\n\n```json\n{}\n```\n\n"
        "<!-- run: ends deploy fail: 3 -->\n<!-- run: serves deploy serve: serve -->\n<!-- run: skip deploy none: needs a camera -->\n\n"
        "```sh\ncargo deploy fail\ncargo build --release\nci/demo --quick\npython3 ci/slowest.py LOG\npip install 'a.whl[b]'\ndeploy none\ndeploy serve\n"
        'kill -0 "$(pidof deploy)"\n```\n'
    )
    planted = {
        "ended with 3": "    deploy fail\n",
        "ended with 127": "    deploi inspect\n",
        "ended with 1": "    cargo deploy inspect | grep nothing\n",
        "ended with 0, not 3": "<!-- run: ends deploy inspect: 3 -->\n\n    deploy inspect\n",
        "a reason": "<!-- run: skip: -->\n\n    deploy inspect\n",
        "no comment that": "<!-- run: leave: this out -->\n\n    deploy inspect\n",
        "names no command": "<!-- run: set: --epochs 1 -->\n\n    deploy inspect\n",
        "no block follows": "<!-- run: skip: needs a camera -->\n",
        "no command of the page": "<!-- run: set deploy embed: --threads 1 -->\n\n    deploy inspect\n",
        "what prepares": "<!-- run: prepare: false -->\n\n    deploy inspect\n",
        "did not print": "<!-- run: serves deploy fail: listening -->\n\n    deploy fail\n",
    }
    for number, (words, text) in enumerate([(None, sound), *planted.items()]):
        root = scratch / f"root-{number}"
        (root / "docs").mkdir(parents=True)
        (root / "README.md").write_text("# Nothing\n")
        (root / "docs/a.md").write_text(text)
        with (scratch / "table").open("w") as table:
            stdout, sys.stdout = sys.stdout, table
            try:
                found = run(root, programs, scratch=root / "scratch", world=None)
            finally:
                sys.stdout = stdout
        if bool(found) != bool(words) or not all(words in fault for fault in found):
            sys.exit(f"error: for {words!r} the faults were {found}")
