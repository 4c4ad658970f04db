"""The package beside the program."""

import ast
import fcntl
import inspect
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
import unittest
import warnings

import numpy
import vitrine
from world import MODEL, ROOT, SAMPLE, WORLD, Case

DOOR = WORLD / "door.jpg"
ANNA, BEN = (sorted((WORLD / "people" / name).glob("*.jpg")) for name in ("anna", "ben"))


def opened(**options):
    return vitrine.Model(MODEL, **options)


def drawn(count, seed=1, size=(48, 24)):
    """Pictures without meaning, as an array."""
    return numpy.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=numpy.uint8)


def ppm(path, pixels):
    height, width, _ = pixels.shape
    path.write_bytes(b"P6 %d %d 255\n" % (width, height) + pixels.tobytes())
    return path


class Embeddings(Case):
    def test_the_committed_sample_is_embedded_as_by_the_program_to_the_bit(self):
        for threads in (1, 2):
            gallery, rows = f"gallery-{threads}", f"rows-{threads}"
            self.done("embed", SAMPLE, "--model", MODEL, "--out", gallery, "--threads", threads)
            self.done("gallery", "export", gallery, "--out", rows)
            wanted = numpy.load(f"{rows}/embeddings.npy")
            lines = pathlib.Path(rows, "rows.jsonl").read_text().splitlines()
            found = opened(threads=threads).embed([json.loads(line)["path"] for line in lines])
            self.assertEqual((found.dtype, found.shape, len(found)), (numpy.float32, wanted.shape, 41))
            self.assertTrue((found.view(numpy.uint32) == wanted.view(numpy.uint32)).all())
            found[0] = 0  # It is the caller's own.

    def test_arrays_are_embedded_as_files(self):
        model, pixels = opened(), drawn(7)
        files = model.embed([ppm(self.folder / f"{at}.ppm", one) for at, one in enumerate(pixels)])
        for given in (pixels, list(pixels), iter(pixels), pixels[:, ::-1][:, ::-1], numpy.asfortranarray(pixels)):
            self.assertTrue((model.embed(given) == files).all())
        self.assertEqual(model.embed(pixels[0]).shape, (1, model.dim))
        self.assertTrue(numpy.allclose(model.embed(pixels[3]), files[3:4], atol=1e-6))
        # Paths in each of their forms, and with arrays between them.
        mixed = model.embed([str(self.folder / "0.ppm"), self.folder / "1.ppm", pixels[2]])
        self.assertTrue(numpy.allclose(mixed, files[:3], atol=1e-6))
        self.assertTrue(numpy.allclose(numpy.linalg.norm(files, axis=1), 1, atol=1e-5))
        self.assertEqual(model.embed([]).shape, (0, model.dim))
        self.assertEqual(model.embed(numpy.zeros((0, 4, 4, 3), numpy.uint8)).shape, (0, model.dim))

    def test_what_numpy_makes_an_array_of_will_do(self):
        class Picture:
            def __init__(self, pixels):
                self.__array_interface__ = pixels.__array_interface__
                self.pixels = pixels

        model, pixels = opened(), drawn(1)
        self.assertTrue((model.embed(Picture(pixels[0])) == model.embed(pixels)).all())

    def test_pictures_that_cannot_be_used_are_named(self):
        model = opened()
        (self.folder / "bad.jpg").write_text("no picture")
        bad = [DOOR, "bad.jpg", DOOR, "gone.jpg"]
        self.raises(ValueError, lambda: model.embed(bad), "`bad.jpg`")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            rows = model.embed(bad, strict=False)
        self.assertEqual([bool(numpy.isnan(row).all()) for row in rows], [False, True, False, True])
        self.assertTrue((rows[0] == rows[2]).all())
        (said,) = said
        self.assertEqual(said.filename, __file__)
        for word in ("2 of 4 pictures", "bad.jpg", "gone.jpg"):
            self.assertIn(word, str(said.message))

    def test_other_threads_run_meanwhile(self):
        model, pixels = opened(threads=1), drawn(1)
        counted, done = 0, threading.Event()

        def count():
            nonlocal counted
            while not done.is_set():
                counted += 1
                time.sleep(0.001)

        thread = threading.Thread(target=count)
        thread.start()
        start = time.monotonic()
        model.embed(list(pixels) * 4000)
        seconds, seen = time.monotonic() - start, counted
        done.set()
        thread.join()
        self.assertGreater(seen, 50 * seconds)

    def test_threads_share_a_model(self):
        model, pixels = opened(), drawn(40)
        alone, found = model.embed(pixels), [None] * 4

        def embed(at):
            found[at] = model.embed(pixels)

        threads = [threading.Thread(target=embed, args=(at,)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for rows in found:
            self.assertTrue((rows == alone).all())

    def test_it_can_be_interrupted(self):
        code = (
            "import _thread, numpy, signal, sys, threading, vitrine\n"
            # Where the tests run in the background, Ctrl-C is ignored.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "model, picture = vitrine.Model(sys.argv[1]), numpy.zeros((1024, 1024, 3), numpy.uint8)\n"
            "threading.Timer(1, _thread.interrupt_main).start()\n"
            "try:\n    model.embed([picture] * 50_000)\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
        )
        run = subprocess.run([sys.executable, "-c", code, str(MODEL)], capture_output=True, text=True, timeout=60)
        self.assertEqual((run.stdout, run.returncode), ("interrupted\n", 0), run.stderr)


class Galleries(Case):
    def test_one_of_the_program_is_read_and_changed(self):
        self.done("enroll", WORLD / "people", "--model", MODEL, "--gallery", "gallery")
        model = opened()
        gallery = vitrine.Gallery.open("gallery", model)
        self.assertEqual(set(gallery.subjects()), {path.name for path in (WORLD / "people").iterdir()})
        for by in ("template", "subject"):
            line = ("search", "--model", MODEL, "--gallery", "gallery", "--query", DOOR, "-k", 5, "--by", by, "--format", "json")
            (wanted,) = json.loads(self.done(*line))["probes"]
            (found,) = gallery.search(DOOR, k=5, by=by)
            self.assertEqual(len(found), 5)
            for ours, theirs in zip(found, wanted["matches"]):
                self.assertEqual((ours.subject, numpy.float32(ours.similarity)), (theirs["identity"], numpy.float32(theirs["similarity"])))
        before = len(gallery)
        (row,) = gallery.enrol("carla", DOOR)
        # Another program sees it, and this one what the other changes.
        listed = json.loads(self.done("gallery", "info", "gallery", "--format", "json"))
        self.assertEqual((listed["templates"], len(gallery)), (before + 1, before + 1))
        self.done("remove", "--gallery", "gallery", "--identity", "ben")
        self.assertEqual(len(gallery), before + 1 - len(BEN))
        self.assertNotIn("ben", gallery.subjects())
        (best, *_), = gallery.search(DOOR)
        self.assertEqual((best.subject, best.row, best.path), ("carla", row, DOOR))
        # One that was made anew is opened again.
        self.done("embed", WORLD / "people" / "anna", "--model", MODEL, "--out", "gallery", "--replace")
        self.assertEqual(len(gallery), len(ANNA))

    def test_one_of_ours_is_read_by_the_program(self):
        model = opened()
        gallery = vitrine.Gallery.create("gallery", model)
        self.assertEqual((len(gallery), gallery.subjects(), gallery.search(DOOR)), (0, [], [[]]))
        rows = gallery.enrol("anna", ANNA)
        rows += gallery.enrol("M\u0075\u0308ller", model.embed(BEN) * 3)
        self.assertEqual((len(rows), len(set(rows)), len(gallery)), (len(gallery), len(gallery), len(ANNA) + len(BEN)))
        self.assertEqual(gallery.subjects(), ["anna", "M\u00fcller"])
        line = ("search", "--model", MODEL, "--gallery", "gallery", "--query", BEN[0], "-k", 20, "--format", "json")
        (theirs,) = json.loads(self.done(*line))["probes"]
        (ours,) = gallery.search(BEN[0], k=20)
        self.assertEqual([found.subject for found in ours], [found["identity"] for found in theirs["matches"]])
        self.assertEqual((ours[0].subject, ours[0].path), ("M\u00fcller", None))
        self.assertAlmostEqual(ours[0].similarity, 1, places=5)
        self.done("gallery", "check", "gallery")
        # Templates of files say which.
        self.assertEqual({found.path for found in ours if found.subject == "anna"}, set(ANNA))

    def test_searches_have_a_threshold_and_people(self):
        model = opened()
        gallery = vitrine.Gallery.create("gallery", model)
        gallery.enrol("anna", ANNA)
        gallery.enrol("ben", BEN)
        (all_,) = gallery.search(DOOR, k=100)
        middle = all_[len(all_) // 2].similarity
        (some,) = gallery.search(DOOR, 100, middle)
        self.assertEqual(some, [found for found in all_ if found.similarity >= middle])
        (people,) = gallery.search(DOOR, by="subject")
        self.assertEqual([one.subject for one in people], list(dict.fromkeys(found.subject for found in all_)))
        (means,) = gallery.search(DOOR, by="subject", fusion="mean")
        for one in means:
            own = [found.similarity for found in all_ if found.subject == one.subject]
            self.assertAlmostEqual(one.similarity, sum(own) / len(own), places=5)
        # Vectors find what their pictures find, and each probe has its list.
        probes = [DOOR, BEN[0]]
        self.assertEqual(gallery.search(model.embed(probes)), gallery.search(probes))
        self.assertEqual([len(found) for found in gallery.search(probes, k=1)], [1, 1])
        self.assertEqual(gallery.search([]), [])

    def test_people_and_rows_are_removed(self):
        gallery = vitrine.Gallery.create("gallery", opened())
        first, *_ = gallery.enrol("anna", ANNA)
        rows = gallery.enrol("ben", BEN)
        self.assertEqual(gallery.remove(first), 1)
        self.assertEqual(gallery.remove(rows), len(rows))
        self.assertEqual(gallery.subjects(), ["anna"])
        self.raises(ValueError, lambda: gallery.remove(rows), f"template {rows[0]} is not in the gallery")
        self.raises(ValueError, lambda: gallery.remove("ben"), "`ben` is not enrolled in `gallery`")
        self.assertEqual(gallery.remove("anna"), len(ANNA) - 1)
        self.assertEqual(len(gallery), 0)

    def test_enrolling_takes_all_or_none(self):
        gallery = vitrine.Gallery.create("gallery", opened())
        self.raises(FileNotFoundError, lambda: gallery.enrol("anna", [*ANNA, "gone.jpg"]), "`gone.jpg`")
        self.assertEqual((len(gallery), gallery.enrol("anna", []), gallery.subjects()), (0, [], []))

    def test_one_program_changes_it_at_a_time(self):
        model = opened()
        gallery = vitrine.Gallery.create("gallery", model)
        with open("gallery/.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.raises(BlockingIOError, lambda: gallery.enrol("anna", ANNA), "is writing to `gallery`")
            self.assertEqual(len(gallery), 0)
            patient = vitrine.Gallery.open("gallery", model, wait=True)
            thread = threading.Thread(target=patient.enrol, args=("anna", ANNA))
            thread.start()
            time.sleep(0.1)
            self.assertTrue(thread.is_alive())
        thread.join()
        self.assertEqual(len(gallery), len(ANNA))
        # Threads of one program come one after the other.
        threads = [threading.Thread(target=gallery.enrol, args=(f"person {at}", drawn(3, at))) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((len(gallery), len(gallery.subjects())), (len(ANNA) + 24, 9))

    def test_encrypted_galleries_are_unlocked(self):
        self.done("enroll", WORLD / "people", "--model", MODEL, "--gallery", "gallery", "--key-file", "key")
        model = opened()
        self.raises(ValueError, lambda: vitrine.Gallery.open("gallery", model), "`gallery` is encrypted")
        # A program has one key, and other tests have none.
        code = (
            "import sys, vitrine\nvitrine.unlock('key')\nmodel = vitrine.Model(sys.argv[1])\n"
            "gallery = vitrine.Gallery.open('gallery', model)\n"
            "print(gallery.search(sys.argv[2], 1)[0][0].subject)\n"
            "vitrine.Gallery.create('own', model).enrol('anna', sys.argv[2])\n"
        )
        run = subprocess.run([sys.executable, "-c", code, str(MODEL), str(DOOR)], capture_output=True, text=True)
        self.assertEqual((run.stdout, run.returncode), ("anna\n", 0), run.stderr)
        self.assertIn("encrypted", self.sentence("gallery", "info", "own"))
        self.done("gallery", "info", "own", "--key-file", "key")


class Errors(Case):
    def test_sentences_are_those_of_the_program(self):
        model = opened()
        (self.folder / "empty").mkdir()
        (self.folder / "text.onnx").write_text("no model")
        for kind, path in ((FileNotFoundError, "gone"), (FileNotFoundError, "empty"), (ValueError, "text.onnx")):
            said = self.raises(kind, lambda path=path: vitrine.Model(path), path)
            self.assertEqual(said, self.sentence("inspect", path))
        (self.folder / "bad.jpg").write_text("no picture")
        (self.folder / "empty.jpg").write_text("")
        gallery = vitrine.Gallery.create("gallery", model)
        gallery.enrol("anna", ANNA)
        for kind, path in ((ValueError, "bad.jpg"), (ValueError, "empty.jpg"), (FileNotFoundError, "gone.jpg")):
            said = self.raises(kind, lambda path=path: model.embed(path), path)
            pathlib.Path("table.csv").write_text(f"path\n{path}\n")
            line = ("embed", "table.csv", "--model", MODEL, "--out", "rows")
            self.assertEqual(f"none of the 1 pictures can be used: {said}", self.sentence(*line))
        self.raises(ValueError, lambda: model.embed("empty"), "`empty` is a folder; a regular file is needed")
        for path in ("gone", "empty"):
            said = self.raises(FileNotFoundError, lambda path=path: vitrine.Gallery.open(path, model), path)
            self.assertEqual(said, self.sentence("gallery", "info", path))
        self.raises(FileExistsError, lambda: vitrine.Gallery.create("gallery", model), "has a gallery already")
        self.raises(ValueError, lambda: model.embed([(DOOR, DOOR)]), "takes 1 picture a row", "comes with 2")
        self.raises(ValueError, lambda: model.embed([tuple(drawn(2))]), "takes 1 picture a row", "comes with 2")
        self.raises(ValueError, lambda: vitrine.Model(MODEL, provider="abacus"), "`abacus` is no provider")

    @unittest.skipIf(os.geteuid() == 0, "root reads everything")
    def test_what_may_not_be_read_is_said(self):
        (self.folder / "secret.jpg").touch(0o000)
        self.raises(PermissionError, lambda: opened().embed("secret.jpg"), "`secret.jpg`")

    def test_galleries_belong_to_a_model(self):
        shutil.copy(WORLD / "colours.onnx", "colours.onnx")
        flags = "--range 0,1 --mean 0.5 --std 1 --colour rgb --layout nchw --filter bilinear".split()
        self.done("adopt", "colours.onnx", *flags, "-o", "other")
        gallery = vitrine.Gallery.create("gallery", vitrine.Model("other"))
        gallery.enrol("anna", ANNA)
        said = self.raises(ValueError, lambda: vitrine.Gallery.open("gallery", opened()), "embedded by another model")
        self.assertEqual(said, self.sentence("search", "--model", MODEL, "--gallery", "gallery", "--query", DOOR))

    def test_arrays_of_other_shapes_are_refused_with_what_is_allowed(self):
        model = opened()
        gallery = vitrine.Gallery.create("gallery", model)
        zeros = numpy.zeros
        for given, words in (
            (zeros((4, 4), numpy.uint8), ["uint8 [4, 4]"]),
            (zeros((4, 4, 4), numpy.uint8), ["uint8 [4, 4, 4]"]),
            (zeros((4, 4, 3), numpy.float32), ["float32 [4, 4, 3]"]),
            (zeros((1, 2, 4, 4, 3), numpy.uint8), ["[1, 2, 4, 4, 3]"]),
            (zeros((2, 4, 4, 3), numpy.int64), ["int64"]),
            (zeros((0, 4, 3), numpy.uint8), ["4×0 pixels"]),
            (numpy.broadcast_to(numpy.uint8(0), (20_000, 4, 3)), ["4×20000", "16384"]),
            (numpy.broadcast_to(numpy.uint8(0), (16_000, 16_000, 3)), ["16000×16000", "67108864"]),
            ([zeros((4, 4, 3), numpy.uint8), zeros((1, 4, 4, 3), numpy.uint8)], ["batches"]),
            ([zeros((4, 4, 3), numpy.uint8), zeros(model.dim, numpy.float32)], ["either pictures or embeddings"]),
            ([(DOOR, zeros((4, 4, 3), numpy.uint8))], ["all paths, or all arrays"]),
            (zeros((2, model.dim), numpy.float32), ["row 0 has length 0"]),
            (numpy.full((2, model.dim), numpy.nan, numpy.float32), ["row 0 has length NaN"]),
            (zeros((2, 3), numpy.float32), ["[2, 3]", f"[rows, {model.dim}]"]),
            (zeros((0, model.dim), numpy.float32), ["at least one row"]),
        ):
            for call in (gallery.search, lambda given: gallery.enrol("anna", given)):
                with self.subTest(words=words):
                    self.raises(ValueError, lambda: call(given), *words)
        self.raises(ValueError, lambda: model.embed(zeros((1, model.dim), numpy.float32)), "embeddings already")
        for given in (None, 7, 1.5, [None], [7], object(), [[DOOR]], [(None,)], {DOOR: 1.5}.values()):
            self.raises(TypeError, lambda: model.embed(given), "neither a picture nor an embedding")
        self.raises(ValueError, lambda: model.embed([()]), "a picture for each input")
        self.assertEqual(len(gallery), 0)

    def test_numbers_out_of_range_are_refused(self):
        gallery = vitrine.Gallery.create("gallery", opened())
        for options, words in (
            ({"k": 0}, ["k 0", "from 1"]),
            ({"threshold": 1.5}, ["threshold 1.5", "-1 to 1"]),
            ({"threshold": float("nan")}, ["threshold NaN"]),
            ({"by": "person"}, ["`person`", "`subject`"]),
            ({"by": "subject", "fusion": "median"}, ["`median`", "`mean`"]),
            ({"fusion": "mean"}, ["subject"]),
        ):
            self.raises(ValueError, lambda: gallery.search(DOOR, **options), *words)
        self.raises(ValueError, lambda: opened().embed(DOOR, batch_size=0), "batch_size 0", "1 to 65536")
        for name in ("", "  ", "a\x1bb", "x" * 2000):
            self.raises(ValueError, lambda: gallery.enrol(name, DOOR))
        self.assertEqual(gallery.search(DOOR, k=2**62), [[]])

    def test_no_panic_crosses_the_border(self):
        """A panic of Rust would be an exception that `except Exception` does not catch."""
        model = opened()
        gallery = vitrine.Gallery.create("gallery", model)
        odd = [None, "", "\0", "\ud800", b"\xff", -1, 2**70, 1e400, [], [[]], {}, object(), numpy.zeros(()), numpy.array(["a"]), [(), ()]]
        odd += [numpy.zeros((2, 0, 0, 3), numpy.uint8), numpy.ma.masked_all((2, 2, 3), numpy.uint8), range(3), model, gallery]
        calls = [
            lambda one: vitrine.Model(one), lambda one: vitrine.Model(MODEL, contract=one), lambda one: vitrine.Model(MODEL, threads=one),
            lambda one: vitrine.Gallery.open(one, model), lambda one: vitrine.Gallery.open("gallery", one),
            lambda one: gallery.enrol(one, DOOR), lambda one: gallery.enrol("anna", one), lambda one: gallery.search(one),
            lambda one: gallery.search(DOOR, one), lambda one: gallery.search(DOOR, threshold=one), lambda one: gallery.remove(one),
            lambda one: model.embed(one), lambda one: model.embed(DOOR, batch_size=one), vitrine.unlock,
        ]
        for call in calls:
            for one in odd:
                try:
                    call(one)
                except Exception as error:
                    self.assertNotIn("report", str(error))


class Package(Case):
    def test_the_example_of_the_guide_runs_as_it_stands_there(self):
        page = (ROOT / "docs/python.md").read_text()
        (example,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
        shutil.copytree(MODEL, "models-onnx/lmbn_n-market")
        for person in ("anna", "ben"):
            shutil.copytree(WORLD / "people" / person, f"people/{person}")
        shutil.copy(DOOR, ".")
        pathlib.Path("example.py").write_text(example)
        run = subprocess.run([sys.executable, "example.py"], capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("libonnxruntime", run.stdout.splitlines()[0])
        self.assertRegex(run.stdout, r"\nanna: [01]\.\d{3}, .*people/anna/\d\.jpg\n")

    def test_the_stub_has_what_there_is(self):
        folder = pathlib.Path(vitrine.__file__).parent
        self.assertTrue((folder / "py.typed").is_file())
        (stub,) = folder.glob("*.pyi")
        found = {}
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
            elif isinstance(node, ast.FunctionDef):
                found[node.name] = node
        public = {name for name in dir(vitrine) if not name.startswith("_") and not inspect.ismodule(getattr(vitrine, name))}
        self.assertEqual(set(found), public)
        known = {"__new__", "__len__"}
        for name, methods in found.items():
            if isinstance(methods, ast.FunctionDef):
                continue
            own = {one for one in vars(getattr(vitrine, name)) if not one.startswith("_")}
            self.assertEqual({one for one in methods if one not in known}, own)
            for method, node in methods.items():
                value = inspect.getattr_static(getattr(vitrine, name), method)
                if inspect.isgetsetdescriptor(value) or method in known:
                    continue
                parameters = inspect.signature(getattr(getattr(vitrine, name), method)).parameters
                wanted = [one.arg for one in [*node.args.args, *node.args.kwonlyargs]]
                self.assertEqual(list(parameters), wanted, f"{name}.{method}")
        self.assertEqual(vitrine.__version__, re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1])


if __name__ == "__main__":
    unittest.main()
