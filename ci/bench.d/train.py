"""Compares one training step (forward, loss, backward, optimiser) with PyTorch eager, in turns: a re-ID network with the loss
0.5*CrossEntropy+0.5*MSLoss and Adam, SENet or ControlNet with their default losses and AdamW, or stage 2 of palmvein with all
four backbones trained and Adam. Dropout and gradient clipping are off on both sides.

Both run as separate programs with 2 threads, the same input and weights by the same rule; warm-up steps are not counted.
Processor time hardly depends on other work on the machine. The cost of re-ID's loader is measured only for Vitrine: the same
steps with batches read from JPEG files of pedestrians (none kept decoded), against steps on one batch in memory."""

import statistics
import sys

from side_by_side import CACHE, ROOT, THREADS, interleave, last_json, machine, parser, program, ratio, report, run, show

PHASES = ("forward", "backward", "optimizer")
PICTURES = CACHE / "pedestrians"
REID = ("LMBN_n", "OSNet", "ResNet50")
# Each with a suitable batch size.
OTHERS = {"SENet": 32, "ControlNet": 8, "palmvein": 4}


def main():
    arguments = parser(__doc__)
    for name, default in dict(height=256, width=128, identities=751, steps=3, warmup=1).items():
        arguments.add_argument(f"--{name}", type=int, default=default)
    arguments.add_argument("--network", choices=[*REID, *OTHERS], default="LMBN_n")
    arguments.add_argument("--batch", type=int, help=f"default 32; {OTHERS}")
    arguments.add_argument("--device", default="cpu", help="as `train --device`; torch gets cuda or cpu (default %(default)s)")
    a = arguments.parse_args()
    a.batch = a.batch or OTHERS.get(a.network, 32)
    facts = machine()
    shape = [f"--{name}={getattr(a, name)}" for name in ("batch", "height", "width", "identities", "steps", "warmup")]
    shape += [f"--threads={THREADS}", f"--model={a.network}", f"--device={a.device}"]

    def contestant(command):
        result = run(command)
        answer = last_json(result["output"])
        return {
            "seconds": statistics.median(answer["seconds"]),
            **{phase: statistics.median(answer[phase]) for phase in (*PHASES, "processor")},
            # The mean, because only some steps wait for the loader.
            "loader": statistics.mean(answer.get("loader", [0.0])),
            "loss": answer["losses"][0],
            "peak_mib": result["peak_mib"],
        }

    # `train` refuses flags that a network does not read; the peer takes them all.
    foreign = {"SENet": ("height", "width", "identities"), "ControlNet": ("height", "width", "identities"),
               "palmvein": ("height", "width")}.get(a.network, ())
    read = [flag for flag in shape if not flag.startswith(tuple(f"--{name}=" for name in foreign))]
    ours = [program("train"), "bench-step", "--format=json", *read]
    contestants = {
        "vitrine": ours,
        "loading": [*ours, f"--datadir={PICTURES}"],
        "torch": [sys.executable, str(ROOT / "ci/bench.d/train_peer.py"), *shape],
    }
    if a.network not in REID:
        del contestants["loading"]
    elif not PICTURES.exists():
        run([program("fixtures"), "pedestrians", "--identities=80", f"--out={PICTURES}"])
    calls = {name: (lambda command=command: contestant(command)) for name, command in contestants.items()}
    results = interleave(a.rounds, **calls)
    ours, peer = ([turn["seconds"] for turn in results[name]] for name in ("vitrine", "torch"))
    result = {"turns": results, "ratio": ratio(ours, peer)}
    size = f", {a.height}x{a.width}" if a.network in REID else ""
    print(f"{a.network}, batch {a.batch}{size}, {a.rounds} rounds of {a.steps} steps")
    show("Vitrine, seconds a step (median round)", statistics.median(ours))
    show("torch eager, seconds a step (median round)", statistics.median(peer))
    show("Vitrine / torch, time (below 1: faster)", result["ratio"])
    for phase in (*PHASES, "processor"):
        ours, peer = ([turn[phase] for turn in results[name]] for name in ("vitrine", "torch"))
        result[phase] = ratio(ours, peer)
        show(f"  {phase}", result[phase])
        show("    seconds, Vitrine and torch", f"{statistics.median(ours):.4g} and {statistics.median(peer):.4g}")
    if "loading" in results:
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
