"""Search in a gallery against FAISS, usearch and the bare matrix product, in turns, with the same two threads.

usage: ci/bench search [--rows N] [--dim D] [--probes Q] [--rounds R] [--approximate] [--json FILE]

Rows are clustered unit vectors: about twenty around each of N/20 centres. The figure beside a ratio is the time of a
peer divided by ours: above 1 we are faster. A slow peer proves nothing, so the products of probes and rows by numpy's
OpenBLAS and by the Rust crate matrixmultiply, which keep nothing, and a plain reading of all rows run in the same
turns. `eight bits` is the exact search that reads the rows' copy in eight bits first. With --approximate, graphs are
made and searched with the least effort that finds 94 % of the 50 nearest: FAISS HNSW32, usearch in float16, ours.
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
arguments.add_argument("--approximate", action="store_true", help="graphs as well, which take minutes to make")
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
        command = [os.path.abspath(arguments.program), folder / "gallery", rows, probes]
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
times, facts = {}, {}
LOAD = os.getloadavg()[0]
EFFORTS = (8, 16, 32, 64, 128, 256, 512)
WANTED = 0.94


def turn(name, measured):
    times.setdefault(name, []).append(measured)


def size(files):
    return sum(file.stat().st_size for file in files if file.is_file())


def recall(found, wanted):
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted)]))


def least_effort(name, search):
    """The least effort of a contestant that finds enough, and how much it finds."""
    for effort in EFFORTS:
        found = recall(search(effort), wanted)
        if found >= WANTED:
            break
    facts[f"{name} effort"], facts[f"{name} recall@50"] = effort, found
    return effort


try:
    np.save(folder / "rows.npy", rows)
    np.save(folder / "probes.npy", probes)
    ours = Ours(folder, folder / "rows.npy", folder / "probes.npy")
    facts["enrol, seconds"] = ours("enrol")
    (folder / "small").mkdir()
    more = Ours(folder / "small", folder / "rows.npy", folder / "probes.npy")
    more("enrol 1000")
    index = faiss.IndexFlatIP(arguments.dim)
    index.add(rows)
    ours("open")
    facts["first batch with checksums, seconds"] = ours("batch 10")
    facts["rows on disk / their bytes"] = size((folder / "gallery").rglob("*")) / rows.nbytes
    wanted = np.array(ours("ids 50"))
    found = index.search(probes, 50)[1]
    facts["probes with FAISS's fifty ids"] = float(np.mean([set(a) == set(b) for a, b in zip(found, wanted)]))
    # The copy is made by another process: the first one goes on without it.
    reduced = Ours(folder, folder / "rows.npy", folder / "probes.npy")
    facts["copy in eight bits, seconds"] = reduced("reduce")
    reduced("open")
    facts["first batch with the copy's checksums, seconds"] = reduced("batch 10")
    facts["recall@50 with eight bits"] = recall(reduced("ids 50"), wanted)
    facts["with the copy / bytes of the rows"] = size((folder / "gallery").rglob("*")) / rows.nbytes
    facts["memory with eight bits / bytes of the rows"] = reduced("memory") / rows.nbytes
    for _ in range(arguments.rounds):
        # Not of the first process, which would find the copy.
        turn("open", reduced("open"))
        turn("enrol 1000", more("enrol 1000"))
        for k in (10, 50):
            turn(f"faiss batch k={k}", seconds(lambda: index.search(probes, k)))
            turn(f"float batch k={k}", ours(f"batch {k}"))
            turn(f"eight bits batch k={k}", reduced(f"batch {k}"))
        pieces = range(0, len(rows), 10_000)
        turn("numpy product", seconds(lambda: [probes @ rows[at : at + 10_000].T for at in pieces]))
        turn("matrixmultiply product", ours("product"))
        turn("faiss one", seconds(lambda: [index.search(probes[at : at + 1], 10) for at in range(singles)]) / singles)
        turn("float one", ours(f"one 10 {singles}") / singles)
        turn("eight bits one", reduced(f"one 10 {singles}") / singles)
        turn("read", ours("read"))
    if arguments.approximate:
        from usearch.index import Index

        facts["our graph, seconds"] = reduced("index")
        facts["our graph and copy / bytes of the rows"] = (
            size((folder / "gallery").rglob("*.graph")) + size((folder / "gallery").rglob("*.int8"))
        ) / rows.nbytes
        hnsw = faiss.IndexHNSWFlat(arguments.dim, 32, faiss.METRIC_INNER_PRODUCT)
        facts["FAISS HNSW32, seconds"] = seconds(lambda: hnsw.add(rows))
        faiss.write_index(hnsw, str(folder / "hnsw"))
        facts["FAISS HNSW32's file / bytes of the rows"] = size([folder / "hnsw"]) / rows.nbytes
        peer = Index(ndim=arguments.dim, metric="ip", dtype="f16")
        facts["usearch f16, seconds"] = seconds(lambda: peer.add(np.arange(len(rows)), rows, threads=THREADS))
        peer.save(str(folder / "usearch"))
        facts["usearch f16's file / bytes of the rows"] = size([folder / "usearch"]) / rows.nbytes

        def faiss_walk(effort):
            hnsw.hnsw.efSearch = effort
            return hnsw.search(probes, 50)[1]

        def usearch_walk(effort):
            peer.expansion_search = effort
            return peer.search(probes, 50, threads=THREADS).keys

        def our_walk(effort):
            reduced(f"effort {effort}")
            return reduced("ids 50")

        walks = {"FAISS HNSW32": faiss_walk, "usearch f16": usearch_walk}
        for name, walk in walks.items():
            least_effort(name, walk)
        reduced(f"effort {least_effort('our graph', our_walk)}")
        for _ in range(arguments.rounds):
            for name, walk in walks.items():
                turn(f"{name} batch k=50", seconds(lambda: walk(facts[f"{name} effort"])))
            turn("our graph batch k=50", reduced("batch 50"))
    for process in (ours, more, reduced):
        process.process.stdin.close()
finally:
    shutil.rmtree(folder)

median = {name: statistics.median(values) for name, values in times.items()}
print(f"{arguments.rows} rows x {arguments.dim}, {arguments.probes} probes, {THREADS} threads, {arguments.rounds} rounds, "
      f"load {LOAD:.1f} at the start and {os.getloadavg()[0]:.1f} at the end")
for name, value in median.items():
    print(f"  {name:28} {value * 1e3:10.2f} ms   (fastest {min(times[name]) * 1e3:.2f})")
for name, value in facts.items():
    print(f"  {name:58} {value:8.3f}")


def ratio(text, peer, own, goal):
    each = [a / b for a, b in zip(times[peer], times[own])]
    spread = f"({min(each):.2f} to {max(each):.2f})"
    print(f"  {text:58} {statistics.median(each):6.2f} {spread:16}   goal {goal}")


for k in (10, 50):
    ratio(f"batch, k={k}: FAISS flat / float", f"faiss batch k={k}", f"float batch k={k}", 1.5)
    ratio(f"batch, k={k}: numpy's product / float", "numpy product", f"float batch k={k}", 0.8)
    ratio(f"batch, k={k}: FAISS flat / eight bits", f"faiss batch k={k}", f"eight bits batch k={k}", 3)
ratio("one probe: FAISS flat / float", "faiss one", "float one", 2)
ratio("one probe: plain reading / float", "read", "float one", 0.7)
ratio("one probe: FAISS flat / eight bits", "faiss one", "eight bits one", 3)
if arguments.approximate:
    for name in walks:
        ratio(f"graph, k=50: {name} / ours", f"{name} batch k=50", "our graph batch k=50", 0.75)
limit = rows.nbytes / median["read"] / 1e9
copy = len(rows) * (arguments.dim + 16)
print(f"  plain reading: {limit:.1f} GB/s. No search of one probe is faster than {rows.nbytes / limit / 1e6:.2f} ms "
      f"(float, is {median['float one'] * 1e3:.2f}) and {copy / limit / 1e6:.2f} ms "
      f"(eight bits, is {median['eight bits one'] * 1e3:.2f})")
if arguments.json:
    result = {"machine": machine(), "seconds": times, "facts": facts}
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
