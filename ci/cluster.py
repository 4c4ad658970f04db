"""Runs a command while a Milvus server runs, and ends the server. For ci/cluster.

usage: cluster.py lite|standalone FOLDER COMMAND...

The server keeps its files in FOLDER and listens on the loopback interface, or for `standalone` on every interface of
this network. VITRINE_TEST_MILVUS has its address. Exit code of the command, or 1 if the server does not start.
"""

import fcntl
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

# Seconds a server may take to start: a machine that is busy with a build is slow.
PATIENCE = 180


def loopback_up():
    """Turns the loopback interface on, which is off in a new network."""
    request = struct.pack("16sh14x", b"lo", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        flags = struct.unpack("16sh14x", fcntl.ioctl(one, 0x8913, request))[1]
        if not flags & 1:
            fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def lite(folder):
    """Starts the server in Python; returns the process, its port and whether it is ready."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("milvus-lite")), "server", "--host", "127.0.0.1"]
    log = open(folder / "log", "w")
    process = subprocess.Popen([*command, "--port", str(port), "--data-dir", str(folder / "data")], stdout=log, stderr=log)
    return process, port, lambda: answers(port)


def standalone(folder):
    """Starts the server as its own Python package does, which waits for it."""
    from milvus import MilvusServer

    server = MilvusServer(wait_for_started=False)
    server.set_base_dir(str(folder))
    server.start()

    def healthy():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.webservice_port}/healthz", timeout=5) as answer:
                return b"OK" in answer.read()
        except OSError:
            return False

    return server.server_proc, server.listen_port, healthy


def logs(folder):
    for path in [folder / "log", *sorted((folder / "logs").glob("milvus-std*.log"))]:
        if path.exists():
            print(f"last lines of {path.name}:", *path.read_text(errors="replace").splitlines()[-20:], sep="\n", file=sys.stderr)


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in ("lite", "standalone"):
        sys.exit(__doc__)
    folder = Path(sys.argv[2]).absolute()
    folder.mkdir(parents=True)
    loopback_up()
    begun = time.monotonic()
    process, port, ready = {"lite": lite, "standalone": standalone}[sys.argv[1]](folder)
    try:
        while not ready():
            if process.poll() is not None or time.monotonic() - begun > PATIENCE:
                logs(folder)
                print(f"error: the server {'ended' if process.poll() is not None else 'does not answer'}", file=sys.stderr)
                return 1
            time.sleep(0.2)
        print(f"{sys.argv[1]} server on port {port} after {time.monotonic() - begun:.1f} s", file=sys.stderr)
        environment = {**os.environ, "VITRINE_TEST_MILVUS": f"milvus://127.0.0.1:{port}"}
        code = subprocess.run(sys.argv[3:], env=environment).returncode
        if code:
            logs(folder)
        return code
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
