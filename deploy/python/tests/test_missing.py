"""A Python without ONNX Runtime."""

import os
import sys
import unittest

import vitrine
from world import MODEL, Case


class Missing(Case):
    def test_what_is_to_be_installed_is_said(self):
        self.assertNotIn("onnxruntime", sys.modules)
        self.raises(
            RuntimeError, lambda: vitrine.Model(MODEL), "1.31 or newer", "pip install 'vitrine[onnxruntime]'", "ORT_DYLIB_PATH"
        )

    def test_the_library_that_is_named_must_be_there(self):
        os.environ["ORT_DYLIB_PATH"] = "gone.so"
        self.addCleanup(os.environ.pop, "ORT_DYLIB_PATH")
        self.raises(RuntimeError, lambda: vitrine.Model(MODEL), "`gone.so`, which is not a file")

    def test_telemetry_and_tensor_float_32_are_off(self):
        self.assertEqual(os.environ["ORT_DISABLE_TELEMETRY"], "1")
        self.assertEqual(os.environ["NVIDIA_TF32_OVERRIDE"], "0")


if __name__ == "__main__":
    unittest.main()
