"""Trains LMBN_n with Vitrine and with PyTorch, from the same description, some seeds each, and compares what they reach.

usage: ci/bench accuracy [--rounds N] [--epochs N] [--crops DIR] [--json FILE]

Without --crops on the pedestrians that `ci/demo` draws, at its schedule: 128 x 64 pixels, batches of 8 people with 4
pictures, two epochs of warm-up, then half a cosine. With --crops on real pictures, in folders of one person each:
people of even number train, the others test; the pictures of a person are of two cameras in turns, so that each is
searched for among the others. The two agree if their means are within one standard deviation. A training takes some
minutes on two cores; nothing is timed.
"""

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from side_by_side import ROOT, THREADS, last_json, machine, parser, program, run

arguments = parser(__doc__)
arguments.add_argument("--epochs", type=int, default=20, help="epochs of each (default %(default)s)")
arguments.add_argument("--crops", type=Path, help="folder of folders of real pictures (default: drawn pedestrians)")
arguments = arguments.parse_args()
PEOPLE, PICTURES, WARMUP, HEIGHT, WIDTH = 8, 4, 2, 128, 64


def drawn(folder):
    size = ["--train-identities", "48", "--test-identities", "24", "--cameras", "4", "--images-per-camera", "2"]
    run([program("fixtures"), "pedestrians", "--out", folder, "--layout", "market", *size, "--seed", "1"])


def arranged(folder):
    """Links to the pictures, by names of Market-1501's kind."""
    for part in ("bounding_box_train", "bounding_box_test", "query"):
        (folder / part).mkdir(parents=True)
    people = sorted(path for path in arguments.crops.iterdir() if path.is_dir())
    for number, person in enumerate(people, 1):
        for frame, picture in enumerate(sorted(person.glob("*.jpg"))):
            name = f"{number:04}_c{frame % 2 + 1}s1_{frame:06}_00.jpg"
            if number % 2 == 0:
                parts = ["bounding_box_train"]
            else:
                parts = ["bounding_box_test", "query"] if frame < 2 else ["bounding_box_test"]
            for part in parts:
                (folder / part / name).symlink_to(picture.resolve())


def ours(data, seed):
    folder = ROOT / "runs" / "reid" / f"accuracy-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    run([
        program("train"), "reid", "--model", "LMBN_n", "--datadir", data, "--data_train", "market1501",
        "--data_test", "market1501", "--height", HEIGHT, "--width", WIDTH, "--loss", "0.5*CrossEntropy+0.5*MSLoss",
        "--margin", "0.7", "--if_labelsmooth", "--w_cosine_annealing", "--warmup-epochs", WARMUP,
        "--batchid", PEOPLE, "--batchimage", PICTURES, "--epochs", arguments.epochs, "--test_every", 0,
        "--seed", seed, "--save", folder.name,
    ])
    report = json.loads(run([program("train"), "eval", folder, "--format", "json"])["output"])
    shutil.rmtree(folder)
    return found(report, "map"), found(report, "cmc")[0]


def found(node, name):
    """What is called `name`, wherever it is in a report."""
    if isinstance(node, dict):
        if name in node:
            return node[name]
        node = list(node.values())
    inner = (found(inner, name) for inner in node) if isinstance(node, list) else ()
    return next((value for value in inner if value is not None), None)


def theirs(data, seed):
    sizes = {
        "height": HEIGHT, "width": WIDTH, "people": PEOPLE, "pictures": PICTURES, "epochs": arguments.epochs,
        "warmup": WARMUP, "threads": THREADS, "seed": seed,
    }
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    reached = last_json(run([sys.executable, ROOT / "ci/bench.d/accuracy_peer.py", "--data", data, *options])["output"])
    return reached["mAP"], reached["rank1"]


scratch = Path(tempfile.mkdtemp(prefix="vitrine-accuracy-"))
results = {"Vitrine": [], "PyTorch": []}
try:
    data = scratch / "data"
    (arranged if arguments.crops else drawn)(data)
    for seed in range(1, arguments.rounds + 1):
        results["Vitrine"].append(ours(data, seed))
        results["PyTorch"].append(theirs(data, seed))
        print(f"  seed {seed}: {results['Vitrine'][-1]} and {results['PyTorch'][-1]}", file=sys.stderr)
finally:
    shutil.rmtree(scratch)

facts, apart = machine(), {}
print(f"{arguments.epochs} epochs, {arguments.rounds} seeds, on {'real pictures' if arguments.crops else 'drawn pedestrians'}, {facts['cpu']}")
for at, what in enumerate(("mAP", "Rank-1")):
    means, spreads = {}, {}
    for name, runs in results.items():
        values = [one[at] for one in runs]
        means[name] = statistics.mean(values)
        spreads[name] = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"  {what:7} {name:8} {means[name]:.3f} +- {spreads[name]:.3f}   {', '.join(f'{value:.3f}' for value in values)}")
    apart[what] = abs(means["Vitrine"] - means["PyTorch"])
    print(f"  {what:7} apart by {apart[what]:.3f}, one standard deviation is {max(spreads.values()):.3f}")
if arguments.json:
    arguments.json.write_text(json.dumps({"machine": facts, "results": results, "apart": apart}, indent=2) + "\n")
