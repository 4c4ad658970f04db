"""Sparse k-reciprocal re-ranking against the dense one of published code in numpy, one after the other.

usage: ci/bench rerank [--queries N] [--gallery N] [--dim D] [--large] [--rounds R] [--json FILE]

Rows are clustered unit vectors: about twenty around each of N/20 centres, for queries and gallery alike. The default
is the size of Market-1501. The dense one needs three square matrices of everyone, 4.5 GB there; where the machine has
no memory for it, take fewer rows: its time grows with the square of queries and gallery together. `the same` counts
queries with the same fifty nearest entries in the same order; the others differ by rounding. With --large, ours alone
also runs at the size of MSMT17, 11,659 queries and 82,161 entries, where the dense one would need 105 GB.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from side_by_side import THREADS, interleave, last_json, machine, parser, ratio, report, run, show

arguments = parser(__doc__)
arguments.set_defaults(rounds=1)
arguments.add_argument("--queries", type=int, default=3368)
arguments.add_argument("--gallery", type=int, default=15_913)
arguments.add_argument("--dim", type=int, default=512)
arguments.add_argument("--large", action="store_true", help="ours at the size of MSMT17 as well")
arguments.add_argument(
    "--program", default="target/release/examples/rerank", help="our side (default %(default)s)"
)
arguments = arguments.parse_args()
K = 50
os.environ["RAYON_NUM_THREADS"] = str(THREADS)


def rows(folder, queries, gallery):
    random = np.random.default_rng(0)
    centres = random.standard_normal((max(gallery // 20, 1), arguments.dim), dtype=np.float32)
    files = []
    for name, count in (("query", queries), ("gallery", gallery)):
        values = centres[random.integers(0, len(centres), count)]
        values += np.float32(0.7) * random.standard_normal(values.shape, dtype=np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        files.append(folder / f"{name}.npy")
        np.save(files[-1], values)
    return files


def ours(files, out):
    done = run([arguments.program, *files, str(K), out])
    return {**last_json(done["output"]), "peak_mib": done["peak_mib"]}


def dense(files, out):
    done = run([sys.executable, Path(__file__).with_name("rerank_peer.py"), *files, str(K), out])
    return {**last_json(done["output"]), "peak_mib": done["peak_mib"]}


facts = machine()
folder = Path(tempfile.mkdtemp(prefix="vitrine-bench-"))
try:
    files = rows(folder, arguments.queries, arguments.gallery)
    out = {name: folder / f"{name}-found.npy" for name in ("ours", "dense")}
    found = interleave(
        arguments.rounds, ours=lambda: ours(files, out["ours"]), dense=lambda: dense(files, out["dense"])
    )
    same = float(np.mean((np.load(out["ours"]) == np.load(out["dense"])).all(axis=1)))
    seconds = {name: [one["seconds"] for one in results] for name, results in found.items()}
    peaks = {name: max(one["peak_mib"] for one in results) for name, results in found.items()}
    large = ours(rows(folder, 11_659, 82_161), folder / "large.npy") if arguments.large else None
finally:
    shutil.rmtree(folder)

faster = ratio(seconds["dense"], seconds["ours"])
show(f"{arguments.queries} queries, {arguments.gallery} entries: dense / ours", faster)
for name in found:
    show(f"  {name}, fastest", min(seconds[name]), "s")
    show(f"  {name}, peak", peaks[name], "MiB")
show("  queries with the same fifty nearest", same)
if large:
    show("11659 queries, 82161 entries: ours", large["seconds"], "s")
    show("  of which neighbours", large["neighbours"], "s")
    show("  ours, peak", large["peak_mib"], "MiB")
result = {"faster": faster, "seconds": seconds, "peak_mib": peaks, "same": same, "large": large}
report("sparse re-ranking", facts, result, arguments.json)
