"""Search in a gallery against FAISS, usearch and the bare matrix product, in turns, with the same two threads.

usage: ci/bench search [--rows N] [--dim D] [--probes Q] [--rounds R] [--approximate] [--model FILE] [--json FILE]

Rows are clustered unit vectors: about twenty around each of N/20 centres. The figure beside a ratio is the time of a
peer divided by ours: above 1 we are faster. A slow peer proves nothing, so the products of probes and rows by numpy's
OpenBLAS and by the Rust crate matrixmultiply, which keep nothing, and a plain reading of all rows run in the same
turns. `eight bits` is the exact search in a gallery with a copy of its rows in eight bits, which searches of up to 128
probes read first; larger batches reduce the rows themselves, with and without a copy, where the processor has the
instructions. Filters that pass a tenth of the
rows, those of a time or scattered ones with a tag, run beside FAISS's flat search of these rows where they are
(`IDSelectorBitmap`) and beside galleries that hold only these rows, behind each other. With --approximate,
graphs are made and searched with the least effort that finds 94 % of the 50 nearest: FAISS HNSW32, usearch in float16,
ours. With --model, a `model.onnx` whose embeddings have D values (OSNet x0.25 has 512), whole commands are timed and
their memory is measured: `deploy search` for one picture, of somebody unknown and of somebody who is enrolled.
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
from numpy.lib.format import open_memmap
from side_by_side import THREADS, machine, parser, run

# A process that runs commands while this one is small: the most memory of a child counts what its parent had.
LAUNCHER = """
import json, sys
from side_by_side import run
for line in sys.stdin:
    done = run(json.loads(line))
    print(json.dumps({name: done[name] for name in ("seconds", "peak_mib")}), flush=True)
"""
launcher = subprocess.Popen(
    [sys.executable, "-c", LAUNCHER],
    env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
)


def launched(command):
    launcher.stdin.write(json.dumps([str(word) for word in command]) + "\n")
    launcher.stdin.flush()
    answer = launcher.stdout.readline()
    if not answer:
        sys.exit(2)
    return json.loads(answer)


arguments = parser(__doc__)
arguments.add_argument("--rows", type=int, default=100_000)
arguments.add_argument("--dim", type=int, default=512)
arguments.add_argument("--probes", type=int, default=1000)
arguments.add_argument("--approximate", action="store_true", help="graphs as well, which take minutes to make")
arguments.add_argument("--program", default="target/release/examples/search", help="our side (default %(default)s)")
arguments.add_argument("--model", type=Path, help="a model.onnx, for lines about whole commands (default: none)")
arguments.add_argument("--deploy", default="target/release/deploy", help="the program for these (default %(default)s)")
arguments = arguments.parse_args()
faiss.omp_set_num_threads(THREADS)


# Rows that are made, or handed to FAISS, at a time: the whole matrix is in a file and in FAISS, not in Python as well.
PIECE = 10_000


def clustered(rows, centres, random):
    values = centres[random.integers(0, len(centres), rows)]
    values += np.float32(0.7) * random.standard_normal(values.shape, dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def pieces():
    return [slice(at, min(at + PIECE, arguments.rows)) for at in range(0, arguments.rows, PIECE)]


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Ours:
    """Our program, one command at a time."""

    def __init__(self, folder, rows=None):
        rows, probes = rows or root / "rows.npy", root / "probes.npy"
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
centres = random.standard_normal((max(arguments.rows // 20, 1), arguments.dim), dtype=np.float32)
singles = min(20, arguments.probes)
root = folder = Path(tempfile.mkdtemp(prefix="vitrine-bench-"))
times, facts = {}, {}
LOAD = os.getloadavg()[0]
EFFORTS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
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
    else:
        sys.exit(f"error: {name} finds {found:.3f} of the nearest with effort {effort}; {WANTED} were wanted")
    facts[f"{name} effort"], facts[f"{name} recall@50"] = effort, found
    return effort


def passing(kind):
    """The rows that a filter passes: a tenth in one piece, or a tenth that look random. Our program enrols them so."""
    row = np.arange(arguments.rows)
    if kind == "window":
        return row[(row >= arguments.rows // 2) & (row < arguments.rows // 2 + arguments.rows // 10)]
    return row[row * 2_654_435_761 % 2**32 < 2**32 // 10]


class Command:
    """`deploy search` for one picture, whole, in a gallery of the same rows with names, four templates for each."""

    def __init__(self):
        said = (
            {"path": f"{row // 4:06}_c1s1_{row:06}_01.jpg", "identity": row // 4, "identity_name": f"{row // 4:06}", "camera": 0}
            for row in range(arguments.rows)
        )
        with open(root / "rows.jsonl", "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in said)
        self.gallery = root / "named"
        out = ["-o", self.gallery, "--model", arguments.model]
        run([arguments.deploy, "gallery", "import", root / "rows.npy", *out])
        picture = random.integers(0, 256, (256, 128, 3), np.uint8)
        # A PPM, which needs no library; one is of somebody who is enrolled, as its name says.
        self.pictures = {"somebody unknown": root / "probe.ppm", "somebody enrolled": root / "000007_c2s1_000000_00.ppm"}
        for path in self.pictures.values():
            path.write_bytes(b"P6 128 256 255\n" + picture.tobytes())

    def turns(self):
        for who, picture in self.pictures.items():
            search = [arguments.deploy, "search", "--model", arguments.model, "--gallery", self.gallery]
            done = launched([*search, "--query", picture, "--threads", str(THREADS)])
            name = f"deploy search, {who}"
            turn(name, done["seconds"])
            facts[f"{name}, MiB"] = max(facts.get(f"{name}, MiB", 0), done["peak_mib"])


try:
    rows = open_memmap(root / "rows.npy", mode="w+", dtype=np.float32, shape=(arguments.rows, arguments.dim))
    index = faiss.IndexFlatIP(arguments.dim)
    for piece in pieces():
        rows[piece] = clustered(piece.stop - piece.start, centres, random)
        index.add(rows[piece])
    probes = clustered(arguments.probes, centres, random)
    np.save(root / "probes.npy", probes)
    ours = Ours(folder)
    facts["enrol, seconds"] = ours("enrol")
    (folder / "small").mkdir()
    more = Ours(folder / "small")
    more("enrol 1000")
    only = {}
    for kind in ("window", "scattered"):
        (root / kind).mkdir()
        np.save(root / kind / "rows.npy", rows[passing(kind)])
        only[kind] = Ours(root / kind, root / kind / "rows.npy")
        only[kind]("enrol")
        only[kind]("open")
    ours("open")
    facts["first batch with checksums, seconds"] = ours("batch 10")
    facts["rows on disk / their bytes"] = size((folder / "gallery").rglob("*")) / rows.nbytes
    wanted = np.array(ours("ids 50"))
    found = index.search(probes, 50)[1]
    facts["probes with FAISS's fifty ids"] = float(np.mean([set(a) == set(b) for a, b in zip(found, wanted)]))
    selected = {}
    for kind in only:
        bits = np.zeros(arguments.rows, bool)
        bits[passing(kind)] = True
        selected[kind] = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little")))
    for kind, peer in only.items():
        ours(f"filter {kind}")
        if ours("ids 50") != passing(kind)[np.array(peer("ids 50"))].tolist():
            sys.exit(f"error: with the filter `{kind}` there are other hits than in a gallery of these rows")
    # The copy is made by another process: the first one goes on without it.
    reduced = Ours(folder)
    facts["copy in eight bits, seconds"] = reduced("reduce")
    reduced("open")
    facts["first batch with the copy's checksums, seconds"] = reduced("batch 10")
    facts["recall@50 with eight bits"] = recall(reduced("ids 50"), wanted)
    facts["with the copy / bytes of the rows"] = size((folder / "gallery").rglob("*")) / rows.nbytes
    facts["memory with eight bits / bytes of the rows"] = reduced("memory") / rows.nbytes
    command = Command() if arguments.model else None
    for _ in range(arguments.rounds):
        ours("filter none")
        # Not of the first process, which would find the copy.
        turn("open", reduced("open"))
        turn("enrol 1000", more("enrol 1000"))
        for k in (10, 50):
            turn(f"faiss batch k={k}", seconds(lambda: index.search(probes, k)))
            turn(f"float batch k={k}", ours(f"batch {k}"))
            turn(f"eight bits batch k={k}", reduced(f"batch {k}"))
        turn("numpy product", seconds(lambda: [probes @ rows[piece].T for piece in pieces()]))
        turn("matrixmultiply product", ours("product"))
        turn("faiss one", seconds(lambda: [index.search(probes[at : at + 1], 10) for at in range(singles)]) / singles)
        turn("float one", ours(f"one 10 {singles}") / singles)
        turn("eight bits one", reduced(f"one 10 {singles}") / singles)
        turn("read", ours("read"))
        for kind, peer in only.items():
            ours(f"filter {kind}")
            for what, work, count in (("batch k=10", "batch 10", 1), ("one", f"one 10 {singles}", singles)):
                turn(f"only {kind} {what}", peer(work) / count)
                turn(f"filter {kind} {what}", ours(work) / count)
            # A batch of FAISS's compares one probe after the other here.
            params, few = selected[kind], probes[: max(singles, 100)]
            batch = seconds(lambda: index.search(few, 10, params=params)) * len(probes) / len(few)
            one = seconds(lambda: [index.search(probes[at : at + 1], 10, params=params) for at in range(singles)])
            turn(f"faiss {kind} batch k=10", batch)
            turn(f"faiss {kind} one", one / singles)
        if command:
            command.turns()
    if arguments.approximate:
        from usearch.index import Index

        facts["our graph, seconds"] = reduced("index")
        facts["our graph and copy / bytes of the rows"] = (
            size((folder / "gallery").rglob("*.graph")) + size((folder / "gallery").rglob("*.int8"))
        ) / rows.nbytes
        del index
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
    for process in (ours, more, reduced, *only.values()):
        process.process.stdin.close()
    launcher.stdin.close()
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
for kind in only:
    for what in ("batch k=10", "one"):
        ratio(f"{kind}, {what}: FAISS flat of these rows / filtered", f"faiss {kind} {what}", f"filter {kind} {what}", 1)
        ratio(f"{kind}, {what}: a gallery of these rows / filtered", f"only {kind} {what}", f"filter {kind} {what}", 1)
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
