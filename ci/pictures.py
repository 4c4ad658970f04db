"""Pillow's word on our decoders of JPEG and TIFF and on our resizer: the same pixels, to the bit.

    python3 ci/pictures.py PROGRAM [--files N] [--seed N] [FOLDER…]
    python3 ci/pictures.py --half [FOLDER…]

PROGRAM is the example `pixels` of export/contract. Makes N JPEG files (default 400) of random sizes, subsamplings, qualities,
progressive and not, with restarts, grey and CMYK, and as many TIFF files of random kinds, or takes the pictures in FOLDERs; prints how
many differ, and fails if one does. --half prints how far pictures that Pillow decodes at half their scale (`draft`) are from whole
ones, both resized to 256×128: of drawn pictures of 1 to 12 megapixels, and of those in FOLDERs, enlarged to these."""

import argparse
import io
import struct
import subprocess
import sys
import tempfile
import zlib
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


def tiff(values, photometric, bits, order, extra=(), tile=None, planar=False, packed=False, predictor=1, rows=None, fields=()):
    """A TIFF of whole numbers [height, width, samples], in kinds that Pillow does not write."""
    height, width, samples = values.shape
    short, long = order + "H", order + "I"
    wide, high = (tile, tile) if tile else (width, rows or height)
    layers = [values[..., i : i + 1] for i in range(samples)] if planar else [values]
    chunks = []
    for layer in layers:
        for top in range(0, height, high):
            for left in range(0, width, wide):
                part = layer[top : top + high, left : left + wide].astype(np.int64)
                if tile:
                    part = np.pad(part, ((0, high - part.shape[0]), (0, wide - part.shape[1]), (0, 0)))
                if predictor == 2:
                    part = np.concatenate([part[:, :1], np.diff(part, axis=1)], axis=1) & (2**bits - 1)
                if bits >= 8:
                    data = part.astype(np.dtype(f"{order}u{bits // 8}")).tobytes()
                else:
                    flat = part.reshape(part.shape[0], -1)
                    spread = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
                    data = np.packbits(spread.reshape(part.shape[0], -1), axis=1).tobytes()
                chunks.append(zlib.compress(data) if packed else data)
    entries = {
        256: (long, [width]), 257: (long, [height]), 258: (short, [bits] * samples), 259: (short, [8 if packed else 1]),
        262: (short, [photometric]), 277: (short, [samples]), 284: (short, [2 if planar else 1]), 317: (short, [predictor]),
    }  # fmt: skip
    offsets, counts = (324, 325) if tile else (273, 279)
    entries |= {offsets: (long, [0] * len(chunks)), counts: (long, [len(chunk) for chunk in chunks])}
    entries |= {322: (long, [tile]), 323: (long, [tile])} if tile else {278: (long, [high])}
    entries |= {338: (short, list(extra))} if extra else {}
    entries |= {number: (short, [value]) for number, value in fields}
    size = {tag: len(list_) * struct.calcsize(kind) for tag, (kind, list_) in entries.items()}
    at = 8 + 2 + 12 * len(entries) + 4
    behind_at, data_at = at, at + sum(length for length in size.values() if length > 4)
    places = np.cumsum([data_at] + [len(chunk) for chunk in chunks])[:-1]
    entries[offsets] = (long, [int(place) for place in places])
    head, behind = b"", b""
    for tag in sorted(entries):
        kind, list_ = entries[tag]
        value = b"".join(struct.pack(kind, number) for number in list_)
        head += struct.pack(order + "HHI", tag, 4 if kind == long else 3, len(list_))
        if len(value) > 4:
            head += struct.pack(long, behind_at + len(behind))
            behind += value
        else:
            head += value.ljust(4, b"\0")
    begin = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(long, 8) + struct.pack(short, len(entries))
    return begin + head + struct.pack(long, 0) + behind + b"".join(chunks)


def make_tiff(folder, count, rng):
    """Half as Pillow writes them, half by hand: tiles, planes, 16 bits, few bits, white as zero, opacity."""
    for index in range(count):
        path = folder / f"{index:05}.tif"
        width, height = (int(edge) for edge in rng.integers(1, 90, 2))
        if index % 2:
            mode = rng.choice(["1", "L", "LA", "RGB", "RGBA", "RGBX", "CMYK"])
            channels = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "CMYK": 4}.get(mode, 4)
            values = rng.integers(0, 256, (height, width, channels), np.uint8)
            shape = Image.fromarray(values[..., 0]).convert("1") if mode == "1" else None
            picture = shape or Image.frombytes(mode, (width, height), values.tobytes())
            options = {"compression": str(rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]))}
            if mode in ("L", "RGB", "RGBA", "CMYK") and options["compression"][:5] == "tiff_" and rng.integers(2):
                options["tiffinfo"] = {317: 2}
            if rng.integers(2):
                options["strip_size"] = int(rng.integers(1, 4000))
            picture.save(path, **options)
            continue
        kinds = [(0, 1, 1, ()), (1, 1, 1, ()), (0, 2, 1, ()), (1, 4, 1, ()), (0, 8, 1, ()), (1, 8, 1, ()), (1, 8, 2, (2,))]
        kinds += [(2, bits, 3, ()) for bits in (8, 16)] + [(2, bits, 4, (extra,)) for bits in (8, 16) for extra in (0, 1, 2)]
        kinds += [(5, bits, 4, ()) for bits in (8, 16)]
        photometric, bits, samples, extra = kinds[rng.integers(len(kinds))]
        values = rng.integers(0, 2**bits, (height, width, samples))
        values[0, 0] = 2**bits - 1
        whole = extra != (0,)
        how = {"rows": int(rng.integers(1, height + 1)), "packed": bool(rng.integers(2))}
        # Tiles of few bits, and what libtiff gives to Pillow otherwise than it is, are left out.
        if bits >= 8 and whole:
            how["tile"] = [None, 16, 64][rng.integers(3)]
            how["predictor"] = 2 if how["packed"] and rng.integers(2) else 1
        how["planar"] = bool(photometric == 2 and not extra and bits == 8 and not how.get("tile") and rng.integers(2))
        fields = [(274, int(rng.integers(1, 9)))] if rng.integers(3) == 0 else []
        path.write_bytes(tiff(values, photometric, bits, "<>"[rng.integers(2)], extra, fields=fields, **how))


# Width and height: 1 to 12 megapixels.
LARGE = [(1152, 864), (1920, 1080), (2592, 1944), (4000, 3000)]


def drawn(size, rng):
    """A picture with soft areas, sharp edges, lines a pixel wide and noise."""
    width, height = size
    soft = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    values = np.asarray(soft).astype(np.int16)
    for _ in range(60):
        left, top = int(rng.integers(width)), int(rng.integers(height))
        values[top : top + int(rng.integers(2, height // 3)), left : left + int(rng.integers(2, width // 3))] = rng.integers(0, 256, 3)
    values[:: int(rng.integers(5, 40))] = 255
    values[:, :: int(rng.integers(5, 40))] = 0
    return Image.fromarray(np.clip(values + rng.integers(-6, 7, values.shape), 0, 255).astype(np.uint8))


def half(folders, rng):
    """Prints how far the short way is from the whole one."""
    crops = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    sources = [("drawn", lambda size: drawn(size, rng))] * 5
    sources += [("enlarged", lambda size, path=path: Image.open(path).convert("RGB").resize(size, Image.Resampling.LANCZOS)) for path in crops[:: max(1, len(crops) // 10)]]
    for filter_name in ("pillow-bilinear", "pillow-bicubic"):
        for kind in dict.fromkeys(kind for kind, _ in sources):
            apart = []
            for size in LARGE:
                for _, make_one in (source for source in sources if source[0] == kind):
                    file = io.BytesIO()
                    make_one(size).save(file, "JPEG", quality=90)
                    whole, short = Image.open(file), Image.open(file)
                    short.draft("RGB", (size[0] // 2, size[1] // 2))
                    assert short.size == ((size[0] + 1) // 2, (size[1] + 1) // 2), short.size
                    pair = [np.asarray(one.resize((128, 256), FILTERS[filter_name])).astype(int) for one in (whole, short)]
                    apart.append(np.abs(pair[0] - pair[1]))
            means = [float(levels.mean()) for levels in apart]
            more = np.mean([(levels > 1).mean() for levels in apart])
            print(f"{kind}, {filter_name}: {len(apart)} pictures, levels apart: mean {np.mean(means):.2f} (of the worst picture {max(means):.2f}), "
                  f"most {max(int(levels.max()) for levels in apart)}; {100 * more:.1f} % of the values by more than one")  # fmt: skip


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
    arguments.add_argument("program", type=Path, nargs="?")
    arguments.add_argument("folders", type=Path, nargs="*")
    arguments.add_argument("--half", action="store_true")
    arguments.add_argument("--files", type=int, default=400)
    arguments.add_argument("--seed", type=int, default=7)
    a = arguments.parse_args()
    rng = np.random.default_rng(a.seed)
    if a.half:
        return half(([a.program] if a.program else []) + a.folders, rng)
    if not a.program:
        arguments.error("PROGRAM is needed")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if not a.folders:
            make(folder, a.files, rng)
            make_tiff(folder, a.files, rng)
        found = (path for folder in a.folders or [folder] for path in folder.rglob("*"))
        files = sorted(path for path in found if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".tif", ".tiff"})
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
