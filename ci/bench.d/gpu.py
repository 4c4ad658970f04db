"""One training step of LMBN_n, OSNet and ResNet50 on a GPU, in float32 and bfloat16, against PyTorch eager and compiled.

Needs ci/bench.d, a `train` built with the back end, and python with numpy; the peers run where torch sees the same GPU. A network
that is fast and wrong is no result: the first loss must be the one that the same program computes on the CPU, to 1e-3 in float32
and 3e-2 in bfloat16; and with --golden (and fixtures/) all networks, losses and steps are first compared with their references
on the device. The bound is arithmetic alone: multiply-adds of forward and backward over the peak given with --tflops."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Multiply-adds of a forward pass for one picture of 256x128, in 1e9: LMBN_n's as documented, the others counted layer by layer.
GIGA = {"LMBN_n": 1.62, "OSNet": 0.98, "ResNet50": 4.05}
# A backward pass is two of them, and a multiply-add is two operations.
OPERATIONS = 2 * 3


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: exit code {done.returncode} from: {' '.join(map(str, command))}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Memory:
    """Largest memory in use on the first GPU while something runs, in MiB, by nvidia-smi; None where there is none."""

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
    """The tests of networks, losses and steps against their references, on the device; their names and how they ended."""
    place = {"VITRINE_TEST_DEVICE": device, "VITRINE_FIXTURES": str(HERE.parent.parent / "fixtures")}
    # One at a time: a device has no memory for all of them.
    command = [program, "golden::", "--test-threads=1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | place)
    lines = [line.removeprefix("test ").split(" ... ") for line in done.stdout.splitlines() if line.startswith("test golden::")]
    if not lines:
        sys.exit(f"error: `{program}` ran no test, exit code {done.returncode}:\n{done.stdout}")
    ended = {name: how for name, how in lines}
    print(f"references: {sum(how == 'ok' for how in ended.values())} of {len(ended)} tests hold on {device}", flush=True)
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    return ended


def has_torch(device):
    check = f"import torch, sys; sys.exit(not ({device!r} == 'cpu' or torch.cuda.is_available()))"
    return subprocess.run([sys.executable, "-c", check], stderr=subprocess.DEVNULL).returncode == 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--program", default="target/release/train", help="our program (default %(default)s)")
    arguments.add_argument("--device", default="cuda:0", help="as `train --device` (default %(default)s)")
    arguments.add_argument("--networks", default="LMBN_n,OSNet,ResNet50", help="by comma (default %(default)s)")
    for name, default in dict(batch=64, height=256, width=128, identities=751, steps=10, warmup=5, threads=8).items():
        arguments.add_argument(f"--{name}", type=int, default=default, help="(default %(default)s)")
    arguments.add_argument("--tflops", type=float, nargs=2, metavar=("F32", "BF16"), default=(67.0, 989.0), help="peak of the GPU (default: H200)")
    arguments.add_argument("--golden", metavar="PROGRAM", help="the test program of `ci/cuda-offline`, run first")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write every measured number there as well")
    a = arguments.parse_args()
    shape = [f"--{name}={getattr(a, name)}" for name in ("height", "width", "identities", "threads")]
    torch_device = a.device.split(":")[0]
    peers = has_torch(torch_device)
    if not peers:
        print(f"torch does not run on {torch_device} here: no peer to compare with", file=sys.stderr)
    results, wrong = [], []
    ended = golden(a.golden, a.device) if a.golden else {}
    wrong += [f"{name}: {how}" for name, how in ended.items() if how != "ok"]
    for network in a.networks.split(","):
        ours = [a.program, "bench-step", "--format=json", f"--model={network}", *shape]
        small = ["--batch=8", "--steps=1", "--warmup=0"]
        truth = run([*ours, *small, "--device=cpu"])["losses"][0]
        for precision, limit, peak in (("float32", 1e-3, a.tflops[0]), ("bfloat16", 3e-2, a.tflops[1])):
            amp = ["--use-amp"] if precision == "bfloat16" else []
            first = run([*ours, *small, *amp, f"--device={a.device}"])["losses"][0]
            if abs(first - truth) > limit * abs(truth):
                wrong.append(f"{network} in {precision}: loss {first} on {a.device}, {truth} on the CPU")
            counts = [f"--batch={a.batch}", f"--steps={a.steps}", f"--warmup={a.warmup}"]
            with Memory() as memory:
                answer = run([*ours, *counts, *amp, f"--device={a.device}"])
            seconds = statistics.median(answer["seconds"])
            pixels = a.height * a.width / (256 * 128)
            bound = GIGA[network] * 1e9 * OPERATIONS * a.batch * pixels / (peak * 1e12)
            row = {"network": network, "precision": precision, "computed": answer["precision"], "seconds": seconds}
            row |= {phase: statistics.median(answer[phase]) for phase in ("forward", "backward", "optimizer")}
            row |= {"least": min(answer["seconds"]), "most": max(answer["seconds"]), "memory_mib": memory.most, "bound": bound}
            row["loss_off"] = (first - truth) / truth
            for name, flags in (("eager", []), ("compiled", ["--compile"])) if peers else ():
                peer = run([sys.executable, HERE / "train_peer.py", f"--model={network}", f"--device={torch_device}", *shape, *counts, *amp, *flags])
                row[name] = statistics.median(peer["seconds"])
                row[f"{name}_mib"] = peer.get("device_mib")
            results.append(row)
            against = "".join(f"  {name} {row[name] * 1e3:.1f} ms ({seconds / row[name]:.2f}x)" for name in ("eager", "compiled") if name in row)
            print(f"{network:9} {precision:9} {seconds * 1e3:9.1f} ms a step of {a.batch} ({seconds / bound:6.1f}x the arithmetic bound){against}")
    print(f"device {a.device}, program {a.program}, {a.height}x{a.width}; phases, spread and memory with --json")
    if a.json:
        a.json.parent.mkdir(parents=True, exist_ok=True)
        a.json.write_text(json.dumps({"command": sys.argv[1:], "golden": ended, "results": results, "wrong": wrong}, indent=2) + "\n")
    if wrong:
        sys.exit("error: not what the references or the CPU give: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
