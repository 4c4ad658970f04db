"""A network that takes a pair of pictures, small enough to be written by hand: the means of 8×8 pixels of both."""

import json

HEIGHT, WIDTH, POOL = 64, 32, 8
SIDES = ["palm", "vein"]
FEATURES = len(SIDES) * 3 * (HEIGHT // POOL) * (WIDTH // POOL)
FLOAT, INT, INTS = 1, 2, 7


def varint(value):
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes(parts + bytes([value]))


def field(number, value):
    """A field of a protobuf message: an integer, text, or a message that is already written."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def node(kind, inputs, output, *attributes):
    parts = [field(1, name) for name in inputs] + [field(2, output), field(3, output), field(4, kind)]
    return b"".join(parts + [field(5, attribute) for attribute in attributes])


def ints(name, values):
    return field(1, name) + b"".join(field(8, value) for value in values) + field(20, INTS)


def whole(name, value):
    return field(1, name) + field(3, value) + field(20, INT)


def tensor(name, sizes):
    """A float tensor with a batch axis before these sizes."""
    axes = [field(2, "batch")] + [field(1, size) for size in sizes]
    shape = b"".join(field(1, axis) for axis in axes)
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, shape)))


def model():
    pooled = [f"{side}.pooled" for side in SIDES]
    window = [ints("kernel_shape", [POOL, POOL]), ints("strides", [POOL, POOL])]
    nodes = [node("AveragePool", [side], to, *window) for side, to in zip(SIDES, pooled)]
    nodes += [
        node("Concat", pooled, "joined", whole("axis", 1)),
        node("Flatten", ["joined"], "features", whole("axis", 1)),
    ]
    graph = b"".join(field(1, one) for one in nodes) + field(2, "pair")
    graph += b"".join(field(11, tensor(side, [3, HEIGHT, WIDTH])) for side in SIDES)
    graph += field(12, tensor("features", [FEATURES]))
    return field(1, 10) + field(7, graph) + field(8, field(2, 20))


def write(folder, like):
    """Writes `pair.onnx` and its `contract.json`, made from the contract of a model of one picture."""
    contract = json.loads(like.read_text())
    [picture] = contract["input"]
    shape = ["batch", 3, HEIGHT, WIDTH]
    one = {**picture, "shape": shape, "picture": {**picture["picture"], "size": [HEIGHT, WIDTH]}}
    [output] = contract["output"]
    embedding = {**contract["embedding"], "dim": FEATURES, "parts": 1, "flip": False, "contract_id": "0123456789abcdef"}
    contract |= {
        "family": "palmvein",
        "architecture": "means",
        "input": [{**one, "name": side} for side in SIDES],
        "output": [{**output, "shape": ["batch", FEATURES], "meaning": "means of pixels"}],
        "embedding": embedding,
        "threshold": None,
        "golden": None,
    }
    (folder / "pair.onnx").write_bytes(model())
    (folder / "pair.json").write_text(json.dumps(contract))
    return folder / "pair.onnx", folder / "pair.json"
