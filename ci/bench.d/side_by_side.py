"""Helpers of the benchmarks: running contestants in turns, ratios with their spread, facts about the machine."""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
THREADS = 2
# Packages that are imported by another name.
MODULES = {"pillow": "PIL", "faiss-cpu": "faiss"}


def parser(doc):
    arguments = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write every measured number there as well")
    arguments.add_argument("--rounds", type=int, default=3, help="turns per contestant (default %(default)s)")
    return arguments


def program(name):
    return str(ROOT / "target" / "release" / name)


def machine():
    """CPU, cores, memory and versions, without which a number means nothing."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line.split(":", 1)[1].split() for line in lines if line.startswith("flags"))
        cpu += " (AVX-512)" if "avx512f" in flags else " (AVX2)" if "avx2" in flags else ""
    except (OSError, StopIteration):
        pass
    packages = ["torch", "onnx", "onnxruntime", "numpy", "pillow", "faiss-cpu"]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "threads": THREADS,
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages if find_spec(MODULES.get(name, name))},
    }


def finished(process):
    """Waits for a child process; returns its exit code and peak resident memory in MiB."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return process.returncode, usage.ru_maxrss / unit


def run(command):
    """Runs a command and returns {"output", "seconds", "peak_mib"}. Exits if it fails."""
    command = [str(word) for word in command]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    code, peak = finished(process)
    seconds = time.perf_counter() - start
    if code:
        print(f"error: exit code {code} from: {shlex.join(command)}", file=sys.stderr)
        sys.exit(2)
    return {"output": output, "seconds": seconds, "peak_mib": peak}


def last_json(text):
    """The JSON object that a contestant prints as its last line."""
    return json.loads(text.strip().splitlines()[-1])


def interleave(rounds, **contestants):
    """Calls the contestants in turns, so that a busy minute affects all; returns a list of results for each."""
    results = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, call in contestants.items():
            results[name].append(call())
            print(f"  round {turn + 1} of {rounds}: {name}", file=sys.stderr)
    return results


def ratio(ours, peer):
    """Median and range of the ratios ours/peer of the rounds."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def show(label, value, unit=""):
    if isinstance(value, dict):
        value = f"{value['median']:.2f}x ({value['least']:.2f} to {value['most']:.2f})"
    elif isinstance(value, float):
        value = f"{value:.4g}"
    print(f"{label:44} {value} {unit}".rstrip())


def report(title, facts, result, path):
    """Prints the machine and the command below the numbers, and writes the JSON file."""
    print(f"\n{title} on {facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, load {facts['load']:.1f} at the start")
    names = ["torch", "onnxruntime", "onnx", "numpy", "pillow", "python"]
    print(f"versions: vitrine {facts['commit']}, " + ", ".join(f"{name} {facts[name]}" for name in names if name in facts))
    print(f"command:  ci/bench {Path(sys.argv[0]).stem} {shlex.join(sys.argv[1:])}".rstrip())
    if facts["load"] > 0.5:
        print("warning: the machine was not idle, so the ratios are less reliable")
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"title": title, "machine": facts, "command": sys.argv[1:], "result": result}, indent=2) + "\n")
