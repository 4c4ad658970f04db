"""One training step of LMBN_n, OSNet or ResNet50 (forward, loss, backward, Adam) against PyTorch eager, in turns.

Both run as programs of their own with 2 threads, the same input, weights by the same rule, the loss
0.5*CrossEntropy+0.5*MSLoss; warm-up steps are not counted. Processor time hardly depends on what else the machine does.
What the loader costs is measured on us alone: the same steps once more, with batches read from JPEG files of pedestrians (none
kept decoded), against those on one batch that lies ready."""

import statistics
import sys

from side_by_side import CACHE, ROOT, THREADS, interleave, last_json, machine, parser, program, ratio, report, run, show

PHASES = ("forward", "backward", "optimizer")
PICTURES = CACHE / "pedestrians"
NETWORKS = ("LMBN_n", "OSNet", "ResNet50")


def main():
    arguments = parser(__doc__)
    for name, default in dict(batch=32, height=256, width=128, identities=751, steps=3, warmup=1).items():
        arguments.add_argument(f"--{name}", type=int, default=default)
    arguments.add_argument("--network", choices=NETWORKS, default="LMBN_n")
    arguments.add_argument("--device", default="cpu", help="as `train --device`; torch gets cuda or cpu (default %(default)s)")
    a = arguments.parse_args()
    facts = machine()
    shape = [f"--{name}={getattr(a, name)}" for name in ("batch", "height", "width", "identities", "steps", "warmup")]
    shape += [f"--threads={THREADS}", f"--model={a.network}", f"--device={a.device}"]

    def contestant(command):
        result = run(command)
        answer = last_json(result["output"])
        return {
            "seconds": statistics.median(answer["seconds"]),
            **{phase: statistics.median(answer[phase]) for phase in (*PHASES, "processor")},
            # The mean: a wait for the loader comes in some steps only.
            "loader": statistics.mean(answer.get("loader", [0.0])),
            "loss": answer["losses"][0],
            "peak_mib": result["peak_mib"],
        }

    ours = [program("train"), "bench-step", "--format=json", *shape]
    if not PICTURES.exists():
        run([program("fixtures"), "pedestrians", "--identities=80", f"--out={PICTURES}"])
    results = interleave(
        a.rounds,
        vitrine=lambda: contestant(ours),
        loading=lambda: contestant([*ours, f"--datadir={PICTURES}"]),
        torch=lambda: contestant([sys.executable, str(ROOT / "ci/bench.d/train_peer.py"), *shape]),
    )
    ours, peer = ([turn["seconds"] for turn in results[name]] for name in ("vitrine", "torch"))
    result = {"turns": results, "ratio": ratio(ours, peer)}
    print(f"{a.network}, batch {a.batch}, {a.height}x{a.width}, {a.rounds} rounds of {a.steps} steps")
    show("Vitrine, seconds a step (median round)", statistics.median(ours))
    show("torch eager, seconds a step (median round)", statistics.median(peer))
    show("Vitrine / torch, time (below 1: faster)", result["ratio"])
    for phase in (*PHASES, "processor"):
        ours, peer = ([turn[phase] for turn in results[name]] for name in ("vitrine", "torch"))
        result[phase] = ratio(ours, peer)
        show(f"  {phase}", result[phase])
        show("    seconds, Vitrine and torch", f"{statistics.median(ours):.4g} and {statistics.median(peer):.4g}")
    plain, loading = ([turn["processor"] for turn in results[name]] for name in ("vitrine", "loading"))
    result["loader"] = ratio(loading, plain)
    show("  processor time with the loader / without", result["loader"])
    waiting = [turn["loader"] / turn["seconds"] for turn in results["loading"]]
    show("    part of a step that waits for it", f"{100 * statistics.median(waiting):.2f} %")
    losses = {name: results[name][0]["loss"] for name in ("vitrine", "torch")}
    if abs(losses["vitrine"] - losses["torch"]) > 1e-3 * losses["torch"]:
        sys.exit(f"error: not the same work: the first losses are {losses}")
    for name in results:
        show(f"{name}, peak memory", max(turn["peak_mib"] for turn in results[name]), "MiB")
    report("training step", facts, result, a.json)


if __name__ == "__main__":
    main()
