"""Pillow's word on our JPEG decoder and resizer: the same pixels, to the bit.

    python3 ci/pictures.py PROGRAM [--files N] [--seed N] [FOLDER…]

PROGRAM is the example `pixels` of export/contract. Makes N JPEG files (default 400) of random sizes, subsamplings, qualities,
progressive and not, with restarts, grey and CMYK, or takes the pictures in FOLDERs; prints how many differ, and fails if one does."""

import argparse
import io
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

FILTERS = {
    "pillow-bilinear": Image.Resampling.BILINEAR,
    "pillow-bicubic": Image.Resampling.BICUBIC,
    "pillow-lanczos": Image.Resampling.LANCZOS,
    "pillow-box": Image.Resampling.BOX,
}


def make(folder, count, rng):
    for index in range(count):
        width, height = (int(edge) for edge in rng.integers(1, 90, 2))
        mode = rng.choice(["RGB", "RGB", "RGB", "RGB", "L", "CMYK"])
        channels = {"RGB": 3, "L": 1, "CMYK": 4}[mode]
        block = int(rng.integers(1, 12))
        patches = rng.integers(0, 256, (height // block + 1, width // block + 1, channels))
        values = np.kron(patches, np.ones((block, block, 1), int))[:height, :width]
        values = np.clip(values + rng.integers(-30, 31, values.shape), 0, 255).astype(np.uint8)
        options = {"quality": int(rng.integers(1, 101)), "progressive": bool(rng.integers(2)), "optimize": bool(rng.integers(2))}
        if mode == "RGB":
            options |= {"keep_rgb": True} if rng.integers(8) == 0 else {"subsampling": int(rng.integers(3))}
        if rng.integers(3) == 0:
            options["restart_marker_blocks"] = int(rng.integers(1, 9))
        picture = Image.fromarray(values if channels > 1 else values[..., 0], mode)
        picture.save(folder / f"{index:05}.jpg", **options)


def ours(program, lines):
    answer = io.BytesIO(subprocess.run([program], input="\n".join(lines).encode(), stdout=subprocess.PIPE, check=True).stdout)
    for line in lines:
        width, height = struct.unpack("<II", answer.read(8))
        if width == 0:
            yield line, answer.read(struct.unpack("<I", answer.read(4))[0]).decode()
        else:
            yield line, np.frombuffer(answer.read(width * height * 3), np.uint8).reshape(height, width, 3)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program", type=Path)
    arguments.add_argument("folders", type=Path, nargs="*")
    arguments.add_argument("--files", type=int, default=400)
    arguments.add_argument("--seed", type=int, default=7)
    a = arguments.parse_args()
    rng = np.random.default_rng(a.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if not a.folders:
            make(folder, a.files, rng)
        found = (path for folder in a.folders or [folder] for path in folder.rglob("*"))
        files = sorted(path for path in found if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".pgm", ".ppm"})
        lines = [str(path) for path in files]
        for path in files:
            name = rng.choice(list(FILTERS))
            lines.append(f"{name}\t{rng.integers(1, 120)}\t{rng.integers(1, 80)}\t{path}")
        wrong = 0
        worst = {"decoded": 0, "resized": 0}
        for line, found in ours(a.program, lines):
            *how, path = line.split("\t")
            with Image.open(path) as picture:
                expected = picture.convert("RGB")
            if how:
                expected = expected.resize((int(how[2]), int(how[1])), FILTERS[how[0]])
            expected = np.asarray(expected)
            if isinstance(found, str) or found.shape != expected.shape:
                print(f"{line}: {found if isinstance(found, str) else found.shape}, Pillow {expected.shape}", file=sys.stderr)
                wrong += 1
                continue
            apart = int(np.abs(found.astype(int) - expected).max())
            kind = "resized" if how else "decoded"
            worst[kind] = max(worst[kind], apart)
            if apart:
                wrong += 1
                if wrong < 20:
                    print(f"{line}: {apart} levels", file=sys.stderr)
    print(f"{len(files)} pictures: furthest decoded {worst['decoded']}, resized {worst['resized']} levels from Pillow's; {wrong} differ")
    sys.exit(min(wrong, 1))


if __name__ == "__main__":
    main()
