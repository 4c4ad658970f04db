"""Checks ONNX files with Python's `onnx`, an independent implementation of the specification.

usage: "$(ci/venv check)" ci/check_onnx.py MODEL_OR_DIRECTORY...

For each model, runs the checker with full_check and shape inference in strict mode, and requires that the
first axis of all inputs and outputs is the same symbol (the batch; not with --fixed-batch). A directory stands
for all .onnx files below it. Prints one line per model. Exit code 0: all pass; 1: one fails; 2: nothing to check.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import onnx


def batch_axis(values):
    """The symbol on the first axis of all values."""
    names = set()
    for value in values:
        axes = value.type.tensor_type.shape.dim
        if not axes or not axes[0].dim_param:
            raise ValueError(f"first axis of `{value.name}` is not symbolic")
        names.add(axes[0].dim_param)
    if len(names) != 1:
        raise ValueError(f"inputs and outputs have different names for the batch: {', '.join(sorted(names))}")
    return names.pop()


def shape(value):
    axes = value.type.tensor_type.shape.dim
    return f"{value.name}[{','.join(axis.dim_param or str(axis.dim_value) for axis in axes)}]"


def check(path, fixed_batch):
    """One line about a model that passes; raises an exception for one that fails."""
    # By path, which also checks external tensors and is not limited to 2 GiB.
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    values = [*inferred.graph.input, *inferred.graph.output]
    batch = "fixed" if fixed_batch else batch_axis(values)
    known = {value.name for value in [*values, *inferred.graph.value_info]}
    unknown = [name for node in inferred.graph.node for name in node.output if name and name not in known]
    if unknown:
        raise ValueError(f"shape inference leaves {len(unknown)} values without a shape, first `{unknown[0]}`")
    opset = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    kinds = Counter(node.op_type for node in model.graph.node)
    common = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
    inputs, outputs = (" ".join(map(shape, side)) for side in (inferred.graph.input, inferred.graph.output))
    opsets = " ".join(f"{domain} {version}" for domain, version in opset.items())
    return f"opset {opsets}, {len(model.graph.node)} nodes ({common}), batch `{batch}`, {inputs} -> {outputs}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--fixed-batch", action="store_true", help="do not require a symbolic batch axis")
    arguments = parser.parse_args()
    models = [m for path in arguments.models for m in (sorted(path.rglob("*.onnx")) if path.is_dir() else [path])]
    if not models:
        print("error: no .onnx file to check", file=sys.stderr)
        sys.exit(2)
    failed = 0
    for model in models:
        try:
            print(f"ok    {model}: {check(model, arguments.fixed_batch)}")
        except Exception as error:  # A damaged file may raise anything in the checker.
            failed += 1
            print(f"FAIL  {model}: {type(error).__name__}: {' '.join(str(error).split())}")
    print(f"onnx {onnx.__version__}: {len(models) - failed} of {len(models)} models pass")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
