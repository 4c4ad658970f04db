"""Compares one training step of LMBN_n, OSNet and ResNet50 on a GPU, in float32 and bfloat16, with PyTorch eager and compiled.

Needs ci/bench.d, a `train` built with the back end, and python with numpy. The peers run if torch sees the same GPU. A wrong
network must not count as fast: the first loss must equal that of the same program on the CPU, to 1e-3 in float32 and 3e-2
in bfloat16. With --golden (and fixtures/), all networks, losses and steps are first compared with their references on the
device. The roofline is that of ci/bench.d/roofline.py at the peaks given with --tflops and --terabytes."""

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Pictures per batch, height and width, as in the training of re-identification.
SHAPES = {"LMBN_n": (48, 384, 128), "OSNet": (64, 256, 128), "ResNet50": (64, 256, 128)}
# Largest relative difference of the first loss from that of the CPU.
LIMITS = {"float32": 1e-3, "bfloat16": 3e-2}


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, **options)
    if done.returncode:
        sys.exit(f"error: exit code {done.returncode} from: {' '.join(map(str, command))}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Memory:
    """Peak memory in use on the first GPU during a run, in MiB, from nvidia-smi; None without nvidia-smi."""

    def __enter__(self):
        self.most, self.done = None, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def watch(self):
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
        while not self.done.wait(0.2):
            try:
                used = float(subprocess.run(query, capture_output=True, text=True, check=True).stdout)
            except (OSError, subprocess.CalledProcessError, ValueError):
                return
            self.most = max(self.most or 0.0, used)


def golden(program, device):
    """Runs the tests that compare networks, losses and steps with references on the device; returns names and outcomes."""
    place = {"VITRINE_TEST_DEVICE": device, "VITRINE_FIXTURES": str(HERE.parent.parent / "fixtures")}
    # One at a time: all of them together do not fit into the memory of a device.
    command = [program, "golden::", "--test-threads=1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | place)
    lines = [line.removeprefix("test ").split(" ... ") for line in done.stdout.splitlines() if line.startswith("test golden::")]
    if not lines:
        sys.exit(f"error: `{program}` ran no test, exit code {done.returncode}:\n{done.stdout}")
    ended = {name: how for name, how in lines}
    print(f"references: {sum(how == 'ok' for how in ended.values())} of {len(ended)} tests hold on {device}", flush=True)
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        ended["the test program"] = f"exit code {done.returncode}"
    return ended


def has_torch(device):
    check = f"import torch, sys; sys.exit(not ({device!r} == 'cpu' or torch.cuda.is_available()))"
    return subprocess.run([sys.executable, "-c", check], stderr=subprocess.DEVNULL).returncode == 0


def kernels(command):
    """[name, milliseconds, launches] of each kernel in the last step, longest first, from the profiling log of Burn's GPU runtime.
    While it profiles, the runtime waits for every kernel, so their sum is more than the time of a normal step."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "kernels"
        Path(folder, "cubecl.toml").write_text(f'[profiling.logger]\nlevel = "basic"\nfile = "{log}"\n')
        run(command, cwd=folder)
        lines = log.read_text().splitlines()
    tables, rows = [], None
    for line in lines:
        # Names may contain bars themselves.
        name, *cells = (cell.strip() for cell in line.strip().strip("|").rsplit("|", 3))
        if (name, cells[:1]) == ("Name", ["Duration"]):
            rows = []
            tables.append(rows)
        elif name == "Total":
            rows = None
        elif len(cells) == 3 and rows is not None:
            rows.append((name, milliseconds(cells[0]), int(cells[1])))
    # `bench-step` waits for the device twice per step, and each wait logs a table.
    total = {}
    for name, duration, launches in itertools.chain(*tables[-2:]):
        before = total.get(name, (0.0, 0))
        total[name] = (before[0] + duration, before[1] + launches)
    return sorted(([name, *values] for name, values in total.items()), key=lambda row: -row[1])


def milliseconds(text):
    """A duration as Rust prints it."""
    for unit, factor in (("ns", 1e-6), ("µs", 1e-3), ("ms", 1.0), ("s", 1e3)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = lambda name, default, help, **more: parser.add_argument(f"--{name}", default=default, help=f"{help} (default %(default)s)", **more)
    text("program", "target/release/train", "our program")
    text("device", "cuda:0", "as `train --device`; several by comma, `cuda:0,wgpu`, each in turn")
    text("networks", ",".join(SHAPES), "by comma")
    for name, default in dict(identities=751, steps=10, warmup=5, threads=8).items():
        text(name, default, "", type=int)
    for name in ("batch", "height", "width"):
        parser.add_argument(f"--{name}", type=int, help="(default: 48 pictures of 384x128 for LMBN_n, 64 of 256x128 for the others)")
    text("tflops", (67.0, 989.0), "peaks of the GPU; an H200's", type=float, nargs=2, metavar=("F32", "BF16"))
    text("terabytes", 4.8, "a second that its memory moves; an H200's", type=float)
    parser.add_argument("--golden", metavar="PROGRAM", help="the test program of `ci/cuda-offline`, run first on each device")
    parser.add_argument("--kernels", type=int, metavar="N", help="run each network once more and list the N kernels that take longest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measured number there as well")
    return parser.parse_args()


def measure(a, device, network, precision, torch_device):
    """Measures a network on a device in one precision. Returns (measurements or None if the device lacks the precision, errors)."""
    sizes = zip(("batch", "height", "width"), SHAPES[network])
    batch, height, width = (getattr(a, name) or default for name, default in sizes)
    shape = [f"--height={height}", f"--width={width}", f"--identities={a.identities}", f"--threads={a.threads}"]
    ours = [Path(a.program).resolve(), "bench-step", "--format=json", f"--model={network}", *shape]
    amp = ["--use-amp"] if precision == "bfloat16" else []
    small = ["--batch=8", "--steps=1", "--warmup=0"]
    truth = run([*ours, *small, "--device=cpu"])["losses"][0]
    answer = run([*ours, *small, *amp, f"--device={device}"])
    if not answer["precision"].startswith(precision):
        print(f"{network:9} {precision:9} not on this device: {answer['precision']}")
        return None, []
    first = answer["losses"][0]
    wrong = []
    if not abs(first - truth) <= LIMITS[precision] * abs(truth):
        wrong.append(f"{network} in {precision}: loss {first} on {device}, {truth} on the CPU")
    counts = [f"--batch={batch}", f"--steps={a.steps}", f"--warmup={a.warmup}"]
    with Memory() as memory:
        answer = run([*ours, *counts, *amp, f"--device={device}"])
    seconds = statistics.median(answer["seconds"])
    row = {"network": network, "device": device, "batch": batch, "height": height, "width": width}
    row |= {"precision": precision, "computed": answer["precision"], "seconds": seconds}
    row |= {phase: statistics.median(answer[phase]) for phase in ("forward", "backward", "optimizer")}
    row |= {"least": min(answer["seconds"]), "most": max(answer["seconds"]), "memory_mib": memory.most}
    row["loss_off"] = (first - truth) / truth
    line = f"{network:9} {precision:9} {seconds * 1e3:9.1f} ms a step of {batch} at {height}x{width}"
    if importlib.util.find_spec("torch"):
        from roofline import seconds as bound

        peak = a.tflops[precision == "bfloat16"]
        bytes_of_a_value = 2 if precision == "bfloat16" else 4
        row["bound"], row["arithmetic"], row["traffic"] = bound(network, a.identities, batch, height, width, peak, a.terabytes, bytes_of_a_value)
        line += f", {seconds / row['bound']:.1f}x the roofline's {row['bound'] * 1e3:.2f} ms"
    if torch_device:
        for name, flags in ("eager", []), ("compiled", ["--compile"]):
            peer = run([sys.executable, HERE / "train_peer.py", f"--model={network}", f"--device={torch_device}", *shape, *counts, *amp, *flags])
            row[name] = statistics.median(peer["seconds"])
            row[f"{name}_mib"] = peer.get("device_mib")
            line += f", {seconds / row[name]:.2f}x {name} ({row[name] * 1e3:.1f} ms)"
    print(line, flush=True)
    if a.kernels:
        row["kernels"] = kernels([*ours, f"--batch={batch}", "--steps=1", "--warmup=1", *amp, f"--device={device}"])
        total = sum(duration for _, duration, _ in row["kernels"])
        for name, duration, launches in row["kernels"][: a.kernels]:
            print(f"    {100 * duration / total:5.1f} %  {duration:9.3f} ms  {launches:5} times  {name}")
    return row, wrong


def main():
    a = arguments()
    results, wrong, references = [], [], {}
    for device in a.device.split(","):
        # The peer of Vulkan is CUDA: PyTorch on the same GPU.
        torch_device = "cpu" if device == "cpu" else "cuda"
        torch_device = torch_device if has_torch(torch_device) else None
        print(f"device {device}, program {a.program}" + ("" if torch_device else "; torch does not run on it: no peer"))
        if a.golden:
            references[device] = golden(Path(a.golden).resolve(), device)
            wrong += [f"{name} on {device}: {how}" for name, how in references[device].items() if how != "ok"]
        for network in a.networks.split(","):
            for precision in LIMITS:
                row, off = measure(a, device, network, precision, torch_device)
                results += [row] if row else []
                wrong += off
    if a.json:
        a.json.parent.mkdir(parents=True, exist_ok=True)
        facts = {"command": sys.argv[1:], "references": references, "results": results, "wrong": wrong}
        a.json.write_text(json.dumps(facts, indent=2) + "\n")
    if wrong:
        sys.exit("error: not what the references or the CPU give: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
