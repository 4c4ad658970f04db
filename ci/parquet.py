#!/usr/bin/env python3
"""Parquet files of galleries against pyarrow: files that pyarrow writes are imported, and what is exported again is read by
pyarrow, field for field and bit for bit. Called by ci/second-opinion, with pyarrow from ci/requirements-runtimes.txt.

usage: ci/parquet.py DEPLOY        DEPLOY is the program
"""

import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DIM = 48
ROWS = 5000


def unit(dice: random.Random) -> list[float]:
    values = [dice.gauss(0, 1) for _ in range(DIM)]
    length = sum(value * value for value in values) ** 0.5
    # As float32 has them.
    return list(struct.unpack(f"<{DIM}f", struct.pack(f"<{DIM}f", *(value / length for value in values))))


def table(vector: pa.DataType, text: pa.DataType, time: pa.DataType) -> pa.Table:
    dice = random.Random(7)
    some = lambda value: value if dice.random() < 0.8 else None
    scale = {"ms": 1, "us": 1000, "ns": 1_000_000}[time.unit]
    columns = {
        "id": pa.array(range(1, ROWS + 1), pa.int64()),
        "subject": pa.array([some(f"Zoë {row % 91}") for row in range(ROWS)], text),
        "camera": pa.array([some((1 << 32) - 2 - row % 7) for row in range(ROWS)], pa.uint32()),
        "taken": pa.array([some((row - 50) * 86_400_000 * scale) for row in range(ROWS)], time),
        "tags": pa.array([[tag for tag in ("gate", "night", "rain") if dice.random() < 0.3] for _ in range(ROWS)],
                         pa.list_(text)),
        "picture": pa.array([f"p/{row}.jpg" for row in range(ROWS)], text),
        "embedding": pa.array([unit(dice) for _ in range(ROWS)], vector),
    }
    facts = {"vitrine.contract_id": "0123456789abcdef", "vitrine.dim": str(DIM)}
    return pa.table(columns).replace_schema_metadata(facts)


def told(of: pa.Table) -> list:
    """Every field, in plain Python; float32 as their bits, time in milliseconds."""
    bits = lambda values: struct.pack(f"<{len(values)}f", *values)
    names = ["id", "subject", "camera", "tags", "picture"]
    columns = [of.column(name).to_pylist() for name in names]
    columns.append(of.column("taken").cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).to_pylist())
    columns.append([bits(values) for values in of.column("embedding").to_pylist()])
    return list(zip(*columns))


def main() -> int:
    deploy = sys.argv[1]
    fixed, lists = pa.list_(pa.float32(), DIM), pa.list_(pa.float32())
    cases = {
        "as pandas writes": (table(lists, pa.string(), pa.timestamp("ns", "UTC")), {}),
        "fixed lists, plain": (
            table(fixed, pa.large_string(), pa.timestamp("ms", "UTC")),
            {"compression": "NONE", "use_dictionary": False},
        ),
        "pages of version 2": (
            table(lists, pa.string(), pa.timestamp("us", "UTC")),
            {"data_page_version": "2.0", "row_group_size": 1700, "data_page_size": 4096},
        ),
        "floats in streams": (
            table(fixed, pa.string(), pa.timestamp("ms", "UTC")),
            {"use_dictionary": ["subject"], "column_encoding": {"embedding.list.element": "BYTE_STREAM_SPLIT"}},
        ),
    }
    for name, (wanted, options) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            theirs, ours = folder / "theirs.parquet", folder / "ours.parquet"
            pq.write_table(wanted, theirs, **options)
            for words in (["import", theirs, "-o", folder / "g"], ["export", folder / "g", "-o", ours, "--format", "parquet"]):
                subprocess.run([deploy, "gallery", *words], check=True, stdout=subprocess.DEVNULL)
            found = pq.read_table(ours)
            if told(found) != told(wanted):
                print(f"error: {name}: what comes back is not what went in", file=sys.stderr)
                return 1
            if found.schema.field("embedding").type.value_type != pa.float32() or found.column("id").null_count:
                print(f"error: {name}: {found.schema}", file=sys.stderr)
                return 1
            facts = pq.read_metadata(ours).metadata
            if facts.get(b"vitrine.contract_id") != b"0123456789abcdef":
                print(f"error: {name}: {facts}", file=sys.stderr)
                return 1
            print(f"pyarrow {pa.__version__}: {name}: {ROWS} rows there and back, to the bit")
    # What is compressed by what we do not read is refused by its column.
    with tempfile.TemporaryDirectory() as folder:
        theirs = Path(folder) / "theirs.parquet"
        pq.write_table(cases["as pandas writes"][0], theirs, compression="zstd")
        refused = subprocess.run([deploy, "gallery", "import", theirs, "-o", Path(folder) / "g"], capture_output=True, text=True)
        if refused.returncode != 2 or "ZSTD" not in refused.stderr or "`embedding`" not in refused.stderr:
            print(f"error: zstd: {refused.returncode}, {refused.stderr}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
