"""Requests per second of `deploy serve` and of FastAPI with onnxruntime, the same model, in turns on the same cores.

usage: ci/bench serve --model FILE [--seconds S] [--clients N,N,...] [--p99-ms T] [--rounds R] [--json FILE]

Clients are threads that send a JPEG of 128x64 as the body of POST /v1/embed. First they wait for the answer before they
send the next: for each number of clients, requests per second, median and 99th percentile. Then requests are due at equal
distances, whatever became of those before, and their times are counted from when they were due: the highest rate at which
99 of 100 are answered within T, the same for both servers, is found by halving, to 2 % or so, and the ratio of these rates
is the result. Without --p99-ms, T is four times the slower server's median with one client, in whole tens of milliseconds.
The embeddings of both must agree to 1e-3. Then how soon the page is painted in Chromium (`ci/page --first-paint`).
"""

import http.client
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image
from side_by_side import ROOT, THREADS, machine, parser, program


def picture(seed):
    draw = Image.effect_noise((64, 128), 60 + seed).convert("RGB")
    out = io.BytesIO()
    draw.save(out, "JPEG", quality=90)
    return out.getvalue()


def ask(connection, body):
    connection.request("POST", "/v1/embed", body=body, headers={"content-type": "image/jpeg"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {text[:200]!r}")
    return text


def measure(port, pictures, clients, seconds):
    times, stop, lock, failed = [], threading.Event(), threading.Lock(), []

    def client(number):
        connection, own = http.client.HTTPConnection("127.0.0.1", port, timeout=60), []
        try:
            while not stop.is_set():
                began = time.perf_counter()
                ask(connection, pictures[(number + len(own)) % len(pictures)])
                own.append(time.perf_counter() - began)
        except Exception as problem:
            failed.append(repr(problem))
        with lock:
            times.extend(own)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    if failed:
        sys.exit(f"error: {failed[0]}")
    times.sort()
    at = lambda share: 1000 * times[min(len(times) - 1, int(share * len(times)))]
    return {"per_second": len(times) / spent, "p50_ms": at(0.5), "p99_ms": at(0.99)}


class Peer:
    """A running server."""

    def __init__(self, start, model):
        self.process, self.port = start(model)

    def __enter__(self):
        return self.port

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


# Threads that send what is due; more requests than that at a time are late, which counts.
SENDERS = 64


def at_rate(port, pictures, rate, seconds):
    """The 99th percentile in ms of requests that are due at this rate; infinite if one failed."""
    count, lock, times, failed = max(1, int(rate * seconds)), threading.Lock(), [], []
    due, began = iter(range(count)), time.perf_counter() + 0.2

    def sender():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not failed:
            with lock:
                number = next(due, None)
            if number is None:
                return
            at = began + number / rate
            time.sleep(max(0.0, at - time.perf_counter()))
            try:
                ask(connection, pictures[number % len(pictures)])
            except (OSError, RuntimeError) as problem:
                failed.append(problem)
            with lock:
                times.append(time.perf_counter() - at)

    threads = [threading.Thread(target=sender) for _ in range(min(SENDERS, count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        return float("inf")
    times.sort()
    return 1000 * times[min(len(times) - 1, int(0.99 * len(times)))]


def highest_rate(port, pictures, bound, most, seconds):
    """The highest rate below `most` a second that keeps the bound."""
    low, high = 0.0, most
    while high - low > 0.02 * most:
        middle = (low + high) / 2
        if at_rate(port, pictures, middle, seconds) <= bound:
            low = middle
        else:
            high = middle
    return low


def ours(model):
    command = [program("deploy"), "serve", model, "--listen", "127.0.0.1:0", "--threads", str(THREADS), "--log", "quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline().rsplit(":", 1)[1])


def theirs(model):
    port = 18473
    environment = {**os.environ, "MODEL": model, "THREADS": str(THREADS)}
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "ci" / "bench.d"), "serve_peer:app"]
    process = subprocess.Popen([*command, "--port", str(port), "--log-level", "error"], env=environment)
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return process, port
        except OSError:
            time.sleep(0.1)
    sys.exit("error: the peer does not start")


def paint(port):
    """How soon the page of the service is painted and can be used, in milliseconds."""
    command = [ROOT / "ci" / "page", "--first-paint", f"http://127.0.0.1:{port}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--model", required=True, help="model.onnx of one picture input")
    arguments.add_argument("--seconds", type=float, default=5, help="of each turn (default %(default)s)")
    arguments.add_argument("--clients", default="1,4,16", help="at a time (default %(default)s)")
    arguments.add_argument("--p99-ms", type=float, help="bound of the 99th percentile (default: from the measurement)")
    arguments = arguments.parse_args()
    pictures = [picture(seed) for seed in range(8)]
    results, rows, page, servers = {}, {}, None, [("vitrine", ours), ("fastapi", theirs)]
    for _ in range(arguments.rounds):
        for name, start in servers:
            with Peer(start, arguments.model) as port:
                if name == "vitrine" and page is None:
                    page = paint(port)
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                rows[name] = [json.loads(ask(connection, picture))["embeddings"][0] for picture in pictures]
                for clients in sorted({1, *map(int, arguments.clients.split(","))}):
                    measured = measure(port, pictures, clients, arguments.seconds)
                    results.setdefault(clients, {}).setdefault(name, []).append(measured)
    far = max(abs(a - b) for one, two in zip(*rows.values(), strict=True) for a, b in zip(one, two, strict=True))
    if far > 1e-3:
        sys.exit(f"error: the embeddings differ by {far}: the two do not do the same")
    print(f"embeddings agree to {far:.1e}")
    middle = lambda turns: {key: statistics.median(one[key] for one in turns) for key in turns[0]}
    middles = {clients: {name: middle(turns) for name, turns in both.items()} for clients, both in results.items()}
    for clients, both in middles.items():
        ratio = both["vitrine"]["per_second"] / both["fastapi"]["per_second"]
        print(f"{clients:3} clients: {ratio:.2f} times the requests per second")
        for name, one in both.items():
            print(f"    {name:8} {one['per_second']:8.1f}/s  p50 {one['p50_ms']:7.1f} ms  p99 {one['p99_ms']:7.1f} ms")
    bound = arguments.p99_ms or 10 * math.ceil(max(4 * one["p50_ms"] for one in middles[1].values()) / 10)
    rates = {name: [] for name, _ in servers}
    for _ in range(arguments.rounds):
        for name, start in servers:
            # More than it answers when nobody waits for anything is never kept.
            most = 1.1 * max(both[name]["per_second"] for both in middles.values())
            with Peer(start, arguments.model) as port:
                # The first requests of a process are slower.
                measure(port, pictures, 4, 1)
                rates[name].append(highest_rate(port, pictures, bound, most, arguments.seconds))
    held = {name: statistics.median(turns) for name, turns in rates.items()}
    print(f"at a 99th percentile of {bound:.0f} ms: {held['vitrine'] / max(held['fastapi'], 1e-9):.2f} times the requests per second")
    for name, turns in rates.items():
        print(f"    {name:8} {held[name]:8.1f}/s  ({', '.join(f'{rate:.1f}' for rate in turns)})")
    print(f"page: first paint after {page['first_paint_ms']} ms, usable after {page['usable_ms']} ms, {page['kilobytes']} kB")
    if arguments.json:
        numbers = {"machine": machine(), "results": results, "p99_ms": bound, "rates": rates, "page": page}
        arguments.json.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
