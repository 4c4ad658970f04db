"""Requests per second of `deploy serve` and of FastAPI with onnxruntime, the same model, in turns on the same cores.

usage: ci/bench serve --model FILE [--seconds S] [--clients N,N,...] [--rounds R] [--json FILE]

Clients are threads that send a JPEG of 128x64 as the body of POST /v1/embed and wait for the answer before the next.
For each number of clients: requests per second, median and 99th percentile. The embeddings of both must agree to 1e-3.
Then how soon the page is painted in Chromium (`ci/page --first-paint`).
"""

import http.client
import io
import json
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
    return json.loads(text)["embeddings"][0]


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
    arguments = arguments.parse_args()
    pictures = [picture(seed) for seed in range(8)]
    results, rows, page = {}, {}, None
    for turn in range(arguments.rounds):
        for name, start in [("vitrine", ours), ("fastapi", theirs)]:
            process, port = start(arguments.model)
            try:
                if name == "vitrine" and page is None:
                    page = paint(port)
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                rows[name] = [ask(connection, picture) for picture in pictures]
                for clients in map(int, arguments.clients.split(",")):
                    measured = measure(port, pictures, clients, arguments.seconds)
                    results.setdefault(clients, {}).setdefault(name, []).append(measured)
            finally:
                process.terminate()
                process.wait()
    far = max(abs(a - b) for one, two in zip(*rows.values(), strict=True) for a, b in zip(one, two, strict=True))
    if far > 1e-3:
        sys.exit(f"error: the embeddings differ by {far}: the two do not do the same")
    print(f"embeddings agree to {far:.1e}")
    for clients, both in results.items():
        middle = {name: {key: statistics.median(one[key] for one in turns) for key in turns[0]} for name, turns in both.items()}
        ratio = middle["vitrine"]["per_second"] / middle["fastapi"]["per_second"]
        print(f"{clients:3} clients: {ratio:.2f} times the requests per second")
        for name, one in middle.items():
            print(f"    {name:8} {one['per_second']:8.1f}/s  p50 {one['p50_ms']:7.1f} ms  p99 {one['p99_ms']:7.1f} ms")
    print(f"page: first paint after {page['first_paint_ms']} ms, usable after {page['usable_ms']} ms, {page['kilobytes']} kB")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": results, "page": page}, indent=1))


if __name__ == "__main__":
    main()
