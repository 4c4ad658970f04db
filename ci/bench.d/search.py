"""Exact search in a gallery against FAISS flat and the bare matrix product, in turns, with the same two threads.

usage: ci/bench search [--rows N] [--dim D] [--probes Q] [--rounds R] [--json FILE]

Rows are clustered unit vectors: about twenty around each of N/20 centres. The figure beside a ratio is the time of a
peer divided by ours: above 1 we are faster. A slow peer proves nothing, so the products of probes and rows by numpy's
OpenBLAS and by the Rust crate matrixmultiply, which keep nothing, and a plain reading of all rows run in the same
turns.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.pop("OPENBLAS_CORETYPE", None)
import faiss
import numpy as np
from side_by_side import THREADS, machine, parser

arguments = parser(__doc__)
arguments.add_argument("--rows", type=int, default=100_000)
arguments.add_argument("--dim", type=int, default=512)
arguments.add_argument("--probes", type=int, default=1000)
arguments.add_argument("--program", default="target/release/examples/search", help="our side (default %(default)s)")
arguments = arguments.parse_args()
faiss.omp_set_num_threads(THREADS)


def clustered(rows, centres, random):
    values = centres[random.integers(0, len(centres), rows)] + 0.7 * random.standard_normal((rows, centres.shape[1]))
    values = values.astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Ours:
    """Our program, one command at a time."""

    def __init__(self, folder, rows, probes):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(THREADS)}
        command = [arguments.program, folder / "gallery", rows, probes]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __call__(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"error: {arguments.program} ended at `{command}`")
        return json.loads(answer)


random = np.random.default_rng(0)
centres = random.standard_normal((max(arguments.rows // 20, 1), arguments.dim)).astype(np.float32)
rows, probes = (clustered(count, centres, random) for count in (arguments.rows, arguments.probes))
singles = min(20, arguments.probes)
folder = Path(tempfile.mkdtemp(prefix="vitrine-bench-"))
times = {}


def turn(name, measured):
    times.setdefault(name, []).append(measured)


try:
    np.save(folder / "rows.npy", rows)
    np.save(folder / "probes.npy", probes)
    ours = Ours(folder, folder / "rows.npy", folder / "probes.npy")
    enrolled = ours("enrol")
    (folder / "small").mkdir()
    more = Ours(folder / "small", folder / "rows.npy", folder / "probes.npy")
    more("enrol 1000")
    index = faiss.IndexFlatIP(arguments.dim)
    index.add(rows)
    ours("open")
    first = ours("batch 10")
    for _ in range(arguments.rounds):
        turn("open", ours("open"))
        turn("enrol 1000", more("enrol 1000"))
        for k in (10, 50):
            turn(f"faiss batch k={k}", seconds(lambda: index.search(probes, k)))
            turn(f"ours batch k={k}", ours(f"batch {k}"))
        pieces = range(0, len(rows), 10_000)
        turn("numpy product", seconds(lambda: [probes @ rows[at : at + 10_000].T for at in pieces]))
        turn("matrixmultiply product", ours("product"))
        turn("faiss one", seconds(lambda: [index.search(probes[at : at + 1], 10) for at in range(singles)]) / singles)
        turn("ours one", ours(f"one 10 {singles}") / singles)
        turn("read", ours("read"))
    found, wanted = np.array(ours("ids 10")), index.search(probes, 10)[1]
    ours.process.stdin.close()
    more.process.stdin.close()
    size = sum(file.stat().st_size for file in (folder / "gallery").rglob("*") if file.is_file())
finally:
    shutil.rmtree(folder)

median = {name: statistics.median(values) for name, values in times.items()}
bytes_of_rows = rows.nbytes
shape = f"{arguments.rows} rows x {arguments.dim}, {arguments.probes} probes"
print(f"{shape}, {THREADS} threads, {arguments.rounds} rounds")
for name, value in median.items():
    print(f"  {name:24} {value * 1e3:10.2f} ms   (fastest {min(times[name]) * 1e3:.2f})")
print(f"  first batch with checksums {first * 1e3:8.2f} ms, enrolment of all rows {enrolled * 1e3:.0f} ms")


def ratio(text, peer, own, goal):
    print(f"  {text:58} {median[peer] / median[own]:6.2f}   goal {goal}")


for k in (10, 50):
    ratio(f"batch, k={k}: FAISS flat / ours", f"faiss batch k={k}", f"ours batch k={k}", 1.5)
    ratio(f"batch, k={k}: numpy's product / ours", "numpy product", f"ours batch k={k}", 0.8)
ratio("one probe: FAISS flat / ours", "faiss one", "ours one", 2)
ratio("one probe: plain reading / ours", "read", "ours one", 0.7)
speed = {name: bytes_of_rows / median[name] / 1e9 for name in ("ours one", "read")}
print(f"  one probe reads {speed['ours one']:.1f} GB/s, plain reading {speed['read']:.1f} GB/s")
print(f"  bytes on disk / bytes of rows                              {size / bytes_of_rows:6.3f}   goal 1.1 at most")
same = np.mean([set(a) == set(b) for a, b in zip(found, wanted)])
print(f"  probes with FAISS's ten ids {same:.4f}")
if arguments.json:
    result = {"machine": machine(), "seconds": times, "same_ids": float(same), "bytes_ratio": size / bytes_of_rows}
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
