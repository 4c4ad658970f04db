"""A Python that has the package onnxruntime."""

import pathlib
import sys
import unittest

import numpy
import vitrine
from world import MODEL, WORLD, Case


class Package(Case):
    def test_its_library_runs_models_and_both_can_be_used(self):
        model = vitrine.Model(MODEL)
        self.assertNotIn("onnxruntime", sys.modules)
        import onnxruntime

        self.assertEqual(model.library.parent, pathlib.Path(onnxruntime.__file__).resolve().parent / "capi")
        self.assertIn(str(model.library), repr(model))
        session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
        (embedded,) = model.embed(WORLD / "door.jpg")
        shape = [1 if isinstance(axis, str) else axis for axis in session.get_inputs()[0].shape]
        (run, *_) = session.run(None, {session.get_inputs()[0].name: numpy.zeros(shape, numpy.float32)})
        self.assertEqual(run.shape[-1], len(embedded))


if __name__ == "__main__":
    unittest.main()
