"""What the tests have in common: the world that ci/wheel has made, the program beside it, and its sentences."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(os.environ["VITRINE_ROOT"])
WORLD = pathlib.Path(os.environ["VITRINE_WORLD"])
MODEL = WORLD / "model"
SAMPLE = ROOT / "fixtures/pedestrians_sample"


def deploy(*arguments):
    return subprocess.run([os.environ["VITRINE_PROGRAM"], *map(str, arguments)], capture_output=True, text=True)


class Case(unittest.TestCase):
    """A test in a folder of its own, which is the working folder."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def done(self, *arguments):
        """What the program prints, which must succeed."""
        run = deploy(*arguments)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def sentence(self, *arguments):
        """The error of the program."""
        run = deploy(*arguments)
        self.assertEqual(run.returncode, 2, run.stderr)
        return run.stderr[run.stderr.rindex("error: ") + len("error: ") :].strip()

    def raises(self, kind, call, *words):
        """The sentence of the exception, which must be of exactly this kind."""
        with self.assertRaises(kind) as caught:
            call()
        self.assertIs(type(caught.exception), kind)
        for word in words:
            self.assertIn(word, str(caught.exception))
        return str(caught.exception)
