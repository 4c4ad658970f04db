"""Every flow of the page of `deploy serve`, in Chromium, against the real service.

usage: flows.py [FLOW...]      all, or those whose name has one of these in it

Screenshots are left in .cache/page/screens. Exit 0 all passed, 1 not. VITRINE_DEPLOY names another `deploy` than the
one of this checkout.
"""

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))
import pair
from browser import Visit, browser

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "deploy/src/serve/page"
HERE = ROOT / ".cache/page"
SCREENS = HERE / "screens"
SAMPLE = ROOT / "fixtures/pedestrians_sample"
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
DEPLOY = os.environ.get("VITRINE_DEPLOY", PROGRAMS / "deploy")
MODEL = ROOT / "models-onnx/lmbn_n-demo-quick"
LANGUAGES = ["en", "de", "zh"]
# Bytes of the files of a first visit, uncompressed.
LARGEST = 100_000

# Names that a page can stumble over, each with the pictures of one person of the sample.
HOSTILE = "<img src=x onerror=\"document.title='taken over'\">"
LONG = "Maximiliane-Henriette von Hohenlohe-Waldenburg-Schillingsfürst zu Sayn-Wittgenstein"
NAMES = {"Anna Müller": "0001", "王小明": "0002", "ليلى حداد": "0004", LONG: "0003", HOSTILE: "0005", "Ben": "0006"}


def pictures(identity):
    """Pictures of somebody that are enrolled, the oldest camera first."""
    return sorted(SAMPLE.glob(f"bounding_box_t*/{identity}_*.jpg"))


def probe(identity="0001", at=0):
    """Another picture of somebody, which is not enrolled."""
    return sorted(SAMPLE.glob(f"query/{identity}_*.jpg"))[at]


class Service:
    """`deploy serve` on a free port, with a gallery of its own."""

    def __init__(self, name, model, *, keys=None, arguments=()):
        self.folder = HERE / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = None
        self.command = [DEPLOY, "serve", model, "--gallery", self.folder / "gallery"]
        self.command += ["--listen", f"127.0.0.1:{self.port}", *arguments]
        if keys:
            entries = [
                {"name": role, "role": role, "sha256": hashlib.sha256(key.encode()).hexdigest(), "made": 0}
                for role, key in keys.items()
            ]
            path = self.folder / "keys.json"
            path.touch(mode=0o600)
            path.write_text(json.dumps({"keys": entries}))
            self.command += ["--keys", path]
            self.key = keys["admin"]
        self.process = None
        self.start()

    def start(self):
        self.log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [str(part) for part in self.command], stdout=self.log, stderr=self.log, cwd=ROOT
        )
        for _ in range(600):
            if self.process.poll() is not None:
                raise AssertionError(f"the service has ended: {(self.folder / 'log').read_text()[-2000:]}")
            with contextlib.suppress(OSError, urllib.error.URLError):
                self.ask("GET", "v2/health/ready")
                return
            time.sleep(0.1)
        raise AssertionError("the service is not ready after a minute")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def ask(self, method, path, body=None, kind="application/json"):
        request = urllib.request.Request(f"{self.url}/{path}", data=body, method=method)
        if body is not None:
            request.add_header("Content-Type", kind)
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return json.loads(text) if text.startswith((b"{", b"[")) else text

    def enrol(self, name, files):
        boundary = secrets.token_hex(16)
        body = io.BytesIO()
        for field, value in {"name": name, "keep_picture": "true"}.items():
            body.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode())
        for file in files:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="picture"; filename="{file.name}"\r\n'
            body.write(f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + file.read_bytes() + b"\r\n")
        body.write(f"--{boundary}--\r\n".encode())
        return self.ask("POST", "v1/subjects", body.getvalue(), f"multipart/form-data; boundary={boundary}")

    def people(self, **query):
        text = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
        return self.ask("GET", f"v1/subjects?{text}")["subjects"]

    def named(self, name):
        return next((person for person in self.people(q=name, limit=50) if person["name"] == name), None)


class Services:
    """Started when a flow needs them first, stopped at the end."""

    def __init__(self):
        self.running = {}

    def _get(self, name, make):
        if name not in self.running:
            self.running[name] = make()
        return self.running[name]

    @property
    def people(self):
        """A calibrated model and a few people whose names are hard."""

        def make():
            service = Service("people", calibrated(), arguments=["--fpir", "0.1"])
            for name, identity in NAMES.items():
                service.enrol(name, pictures(identity))
            return service

        return self._get("people", make)

    @property
    def many(self):
        """Two hundred people."""

        def make():
            service = Service("many", calibrated())
            files = sorted(SAMPLE.glob("bounding_box_t*/*.jpg"))
            # What comes together is committed together.
            with ThreadPoolExecutor(8) as pool:
                enrol = lambda at: service.enrol(f"Person {at + 1:03}", [files[at % len(files)]])
                list(pool.map(enrol, range(200)))
            return service

        return self._get("many", make)

    @property
    def empty(self):
        """Nobody, and nothing calibrated."""
        return self._get("empty", lambda: Service("empty", MODEL))

    @property
    def pairs(self):
        """A network of two inputs, and nobody."""

        def make():
            HERE.mkdir(exist_ok=True)
            model, contract = pair.write(HERE, MODEL / "contract.json")
            return Service("pairs", model, arguments=["--contract", contract])

        return self._get("pairs", make)

    @property
    def locked(self):
        """One key for each role."""

        def make():
            keys = {role: f"vitrine_{secrets.token_hex(32)}" for role in ["read", "match", "enrol", "admin"]}
            service = Service("locked", calibrated(), keys=keys)
            service.keys = keys
            service.enrol("Anna Müller", pictures("0001"))
            return service

        return self._get("locked", make)

    def stop(self):
        for service in self.running.values():
            service.stop()


def calibrated():
    """The model of `ci/demo --quick` with thresholds for searches, measured on people drawn for that."""
    folder = HERE / "model"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(MODEL, folder)
        drawn = HERE / "strangers"
        shutil.rmtree(drawn, ignore_errors=True)
        draw = [PROGRAMS / "fixtures", "pedestrians", "--out", drawn, "--layout", "market", "--train-identities", "1"]
        quiet(draw + ["--test-identities", "50", "--cameras", "4", "--images-per-camera", "3", "--seed", "7"])
        measure = [DEPLOY, "calibrate", "--model", folder, "--datadir", drawn / "bounding_box_test"]
        # Nobody of the gallery below has more templates.
        quiet(measure + ["--templates", "6", "--fpir", "0.3,0.2,0.1,0.05"])
        (folder / "done").touch()
    return folder


def quiet(command):
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{command} failed: {done.stderr[-2000:]}")


def shot(visit, name):
    visit.page.wait_for_timeout(150)
    visit.page.screenshot(path=SCREENS / f"{name}.png", full_page=True)


def drawn(visit, selector):
    """Whether every canvas of the selector shows more than one colour."""
    visit.page.wait_for_function(
        """(selector) => {
            const all = [...document.querySelectorAll(selector)];
            return all.length > 0 && all.every((one) => {
                if (!(one instanceof HTMLCanvasElement)) return false;
                const { data } = one.getContext('2d').getImageData(0, 0, one.width, one.height);
                return data.some((value, at) => at >= 4 && at % 4 < 3 && value !== data[at % 4]);
            });
        }""",
        arg=selector,
    )


def heard(visit, text):
    """Whether a live region has said it."""
    visit.page.wait_for_function(
        "(text) => ['polite', 'urgent'].some((id) => document.getElementById(id).textContent.includes(text))", arg=text
    )


def search(visit, file):
    """Searches with a picture and returns its result."""
    page = visit.page
    page.locator("input[type=file]").set_input_files(str(file))
    result = page.locator("section.result:not(.busy)", has_text=file.name).first
    result.wait_for()
    return result


# Each flow gets the browser and the services, and fails by an assertion.


def flow_words(_chromium, _services):
    """Every sentence is there in every language, with the same places, and every one is used; sizes are small."""
    words = {code: json.loads((PAGE / f"{code}.json").read_text()) for code in LANGUAGES}
    forms = {"en": {"one", "other"}, "de": {"one", "other"}, "zh": {"other"}}
    places = lambda text: set(re.findall(r"\{(\w+)\}", text)) - {"n"}
    for code, own in words.items():
        assert own.keys() == words["en"].keys(), f"{code}: {own.keys() ^ words['en'].keys()}"
        for key, text in own.items():
            english = words["en"][key]
            assert isinstance(text, str) == isinstance(english, str), f"{code}: {key}"
            if isinstance(text, dict):
                assert text.keys() == forms[code], f"{code}: {key}"
            for form in [text] if isinstance(text, str) else text.values():
                assert form.strip() == form and form, f"{code}: {key}"
                expected = english if isinstance(english, str) else english["other"]
                # A singular may leave out what is one.
                assert places(form) <= places(expected), f"{code}: {key}"
    code = "".join(path.read_text() for path in PAGE.glob("*.js"))
    named = {word for word in re.findall(r"'([a-z]+(?:\.[a-z0-9]+)*)'", code)}
    families = {found for found in re.findall(r"`([a-z]+)\.\$\{", code)}
    families |= {"strangers", "missed", "why"}
    unused = {key for key in words["en"] if key not in named and key.split(".")[0] not in families}
    assert not unused, f"no code uses {unused}"
    assert "innerHTML" not in code and "insertAdjacentHTML" not in code and "eval(" not in code
    outside = re.findall(r"""["'(]\s*(?:https?:)?//[^\s"')]+""", "".join(path.read_text() for path in PAGE.iterdir()))
    assert set(outside) <= {"'http://www.w3.org/2000/svg", '"http://www.w3.org/2000/svg'}, outside


def flow_planted(chromium, services):
    """What the other flows look for is found where it is planted: by axe, beyond the window, in the console."""
    service = services.people
    for planted, check in [
        ("const one = document.createElement('button'); document.querySelector('main').append(one)", "axe"),
        ("document.querySelector('main h1').style.color = '#ccc'", "axe"),
        ("document.querySelector('main h1').style.width = '200vw'", "fits"),
        ("console.error('planted')", "close"),
        ("setTimeout(() => { throw new Error('planted') })", "close"),
        ("fetch('http://127.0.0.1:9/').catch(() => {})", "close"),
    ]:
        visit = Visit(chromium, service.url)
        visit.open("search")
        visit.page.evaluate(f"() => {{ {planted}; }}")
        visit.page.wait_for_timeout(100)
        try:
            getattr(visit, check)(*[] if check == "close" else ["planted"])
        except AssertionError:
            visit.context.close()
            continue
        raise AssertionError(f"went unnoticed: {planted}")


def flow_first_visit(chromium, services):
    """Nothing from elsewhere, a policy that allows nothing else, one heading, a view for every address."""
    service = services.people
    visit = Visit(chromium, service.url)
    answer = visit.page.goto(service.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy, policy
    visit.settled()
    page = visit.page
    files = """() => performance.getEntriesByType('resource').filter((one) => one.name.includes('/page/'))
        .map((one) => one.encodedBodySize)"""
    sizes = page.evaluate(files)
    assert len(sizes) > 8 and sum(sizes) <= LARGEST, sizes
    assert page.locator("h1").count() == 1 and page.title() == "Who is this? – Vitrine"
    for landmark in ["banner", "navigation", "main", "contentinfo"]:
        assert page.get_by_role(landmark).first.is_visible(), landmark
    for link in page.locator("header nav a").all():
        link.click()
        visit.settled()
        assert page.locator("header nav a[aria-current=page]").inner_text() == link.inner_text()
        assert page.evaluate("document.activeElement === document.querySelector('main h1')")
    page.goto(f"{service.url}/#/nowhere/%E0%A4%A")
    visit.settled()
    assert page.locator("h1").inner_text() == "Who is this?"
    visit.close()


def flow_numbers(chromium, services):
    """Counts, rates between measured points, and quantiles of histograms are what they should be."""
    visit = Visit(chromium, services.people.url)
    page = visit.open("service")
    # As the reports of `deploy search` count.
    for rate, interval, counts in [
        (0.003, [0.0012, 0.0057], [3, 1000, 1, 6]),
        (0.0, [0.0, 0.0074], [0, 10000, 0, 74]),
        (1.0, [0.931, 1.0], [100, 100, 93, 100]),
        (0.996, [0.9951, 0.999], [996, 1000, 995, 999]),
        (0.01, [0.0, 0.029], [1, 100, 0, 3]),
        (0.0000312, [0.0, 0.0001], [31, 1_000_000, 0, 100]),
    ]:
        script = """async ([rate, interval]) => {
            const { n, of, low, high } = (await import('/page/meaning.js')).share(rate, interval);
            return [n, of, low, high];
        }"""
        assert page.evaluate(script, [rate, interval]) == counts, rate
    script = """async (at) => {
        const points = [{ similarity: 0.4, fpir: 0.1, fnir: 0.0 }, { similarity: 0.6, fpir: 0.001, fnir: 0.2 }];
        const { fpir, fnir, bound } = (await import('/page/meaning.js')).ratesAt({ points }, at);
        return [fpir, fnir, bound];
    }"""
    near = lambda one, other: all(abs(a - b) < 1e-9 for a, b in zip(one[:2], other)) and one[2] == other[2]
    for at, expected in [
        (0.4, [0.1, 0.0, None]),
        (0.5, [0.01, 0.1, None]),
        (0.6, [0.001, 0.2, None]),
        (0.3, [0.1, 0.0, "below"]),
        (0.7, [0.001, 0.2, "above"]),
    ]:
        assert near(page.evaluate(script, at), expected), (at, page.evaluate(script, at))
    script = """async ([before, after, q]) => {
        const { parse, quantile } = await import('/page/service.js');
        return quantile({ values: parse(before) }, { values: parse(after) }, 's', q);
    }"""
    lines = 's_bucket{{le="0.1",route="/a \\"b\\""}} {}\ns_bucket{{le="1.0",route="/a"}} {}\ns_bucket{{le="+Inf"}} {}\n'
    noise = '# TYPE s histogram\ns_bucket{le="0.1",route="/metrics"} 1000\n'
    before, after = noise + lines.format(10, 0, 10), noise + lines.format(13, 8, 20)
    assert page.evaluate(script, [before, after, 0.25]) == {"above": 0, "upTo": 0.1}
    assert page.evaluate(script, [before, after, 0.8]) == {"above": 0.1, "upTo": 1}
    assert page.evaluate(script, [before, after, 0.99])["above"] == 1
    assert page.evaluate(script, [after, after, 0.5]) is None
    visit.close()


def flow_search(chromium, services):
    """A picture is chosen, somebody is found, the meaning is said, the answer is confirmed and put right."""
    service = services.people
    visit = Visit(chromium, service.url)
    page = visit.open("search")
    assert "counts as found" in page.locator(".meaning").inner_text()
    assert re.search(r"strangers? (is|are) taken for somebody", page.locator(".meaning").inner_text())
    result = search(visit, pictures("0001")[0])
    first = result.locator("li.person").first
    assert "Anna Müller" in first.inner_text() and "1.0000" in first.inner_text()
    assert "above the threshold" in first.inner_text()
    assert first.locator(".why").inner_text().count(".") >= 2
    assert result.locator("li.person").count() == 5
    drawn(visit, "section.result canvas")
    heard(visit, "Anna Müller")
    similarities = [float(text) for text in result.locator("li.person .number").all_inner_texts()]
    assert similarities == sorted(similarities, reverse=True)
    result.get_by_role("button", name="That is right").click()
    result.get_by_text("Confirmed.").wait_for()
    # Several at once, one of which is no picture.
    (HERE / "text.jpg").write_text("no picture")
    page.locator("input[type=file]").set_input_files([str(probe("0002")), str(HERE / "text.jpg")])
    refused = page.locator("section.result", has_text="text.jpg")
    refused.get_by_role("alert").wait_for()
    assert "cannot use this" in refused.inner_text() or "could not read" in refused.inner_text(), refused.inner_text()
    second = page.locator("section.result:not(.busy)", has_text=probe("0002").name)
    second.locator("li.person").first.wait_for()
    second.get_by_role("button", name="That is wrong").click()
    page.get_by_role("dialog").get_by_label("Search by name").fill("ben")
    page.get_by_role("dialog").get_by_role("button", name="Ben").click()
    second.get_by_text("Wrong: it is Ben.").wait_for()
    # Results stay while other views are looked at.
    shot(visit, "search")
    page.get_by_role("link", name="Recent").click()
    visit.settled()
    entries = page.locator("li.match")
    assert "it is Ben" in entries.nth(0).inner_text() and "Confirmed" in entries.nth(1).inner_text()
    page.get_by_role("link", name="Search", exact=True).click()
    visit.settled()
    assert page.locator("section.result").count() == 3
    page.get_by_role("button", name="Clear the results").click()
    assert page.locator("section.result").count() == 0
    visit.close()


def flow_drop_and_paste(chromium, services):
    """Pictures are dropped and pasted; other files are named and left out, and never replace the page."""
    service = services.people
    visit = Visit(chromium, service.url)
    page = visit.open("search")
    carry = """([selector, type, files]) => {
        const carried = new DataTransfer();
        for (const [name, kind, text] of files) {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            carried.items.add(new File([bytes], name, { type: kind }));
        }
        const options = { bubbles: true, cancelable: true };
        const target = document.querySelector(selector);
        if (type === 'paste') target.dispatchEvent(new ClipboardEvent('paste', { clipboardData: carried, ...options }));
        else for (const kind of ['dragenter', 'dragover', type]) {
            target.dispatchEvent(new DragEvent(kind, { dataTransfer: carried, ...options }));
        }
    }"""
    encode = lambda path: base64.b64encode(path.read_bytes()).decode()
    jpeg = ["dropped.jpg", "image/jpeg", encode(probe())]
    page.evaluate(carry, [".drop", "drop", [jpeg, ["notes.txt", "text/plain", "aGk="]]])
    page.locator("section.result:not(.busy)", has_text="dropped.jpg").wait_for()
    page.get_by_text("1 file is no picture and was left out.").wait_for()
    assert not page.locator(".drop.over").count()
    page.evaluate(carry, ["h1", "paste", [["pasted.jpg", "image/jpeg", jpeg[2]]]])
    page.locator("section.result:not(.busy)", has_text="pasted.jpg").wait_for()
    # Beside the place for it.
    page.evaluate(carry, ["footer", "drop", [jpeg]])
    assert page.locator("section.result").count() == 2 and page.url.startswith(service.url)
    visit.close()


def flow_camera(chromium, services):
    """The camera takes a picture; where there is none, the page says why."""
    service = services.people
    visit = Visit(chromium, service.url)
    page = visit.open("search")
    page.get_by_role("button", name="Use the camera").click()
    take = page.get_by_role("button", name="Take the picture")
    page.wait_for_function("() => [...document.querySelectorAll('dialog button.primary')].some((one) => !one.disabled)")
    visit.axe("the camera's dialog")
    take.click()
    page.locator("section.result:not(.busy)", has_text="camera-").wait_for()
    assert page.evaluate("document.querySelectorAll('dialog, video').length") == 0
    visit.close()

    for script, words in [
        (
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'))",
            "was not allowed",
        ),
        (
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError'))",
            "No camera was found",
        ),
        ("Object.defineProperty(window, 'isSecureContext', { value: false })", "only over HTTPS"),
        ("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })", "offers no camera"),
    ]:
        visit = Visit(chromium, service.url)
        visit.context.add_init_script(script)
        page = visit.open("search")
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_text(words).wait_for()
        visit.close()


def flow_enrol(chromium, services):
    """Somebody is enrolled: a hint for a dark picture, warnings for what is there already, more pictures, undone."""
    service = services.people
    visit = Visit(chromium, service.url)
    page = visit.open("people")
    page.get_by_role("link", name="Enrol somebody").click()
    visit.settled()
    page.get_by_role("textbox", name="Name").fill("Carla Neu")
    page.get_by_role("button", name="Enrol", exact=True).click()
    page.get_by_text("Choose a picture first.").wait_for()
    dark = HERE / "dark.png"
    dark.write_bytes(one_colour(64, 128, 4))
    page.locator("input[type=file]").set_input_files([str(dark), str(probe("0004"))])
    page.get_by_text("It is very dark.").wait_for()
    page.get_by_text("2 pictures chosen.").wait_for()
    assert page.get_by_text("Choose a picture first.").count() == 0
    shot(visit, "enrol-hint")
    page.get_by_role("button", name="Leave out (dark.png)").click()
    page.get_by_text("1 picture chosen.").wait_for()
    page.get_by_label("Camera", exact=True).fill("3")
    page.get_by_label("Taken at").fill("2026-03-01T08:30")
    page.get_by_role("button", name="Enrol", exact=True).click()
    page.get_by_text("Enrolled as Carla Neu: 1 template.").first.wait_for()
    heard(visit, "Carla Neu")
    carla = service.named("Carla Neu")
    assert carla and carla["templates"] == 1, carla
    template = service.ask("GET", f"v1/subjects/{carla['id']}")["templates"][0]
    assert template["camera"] == 2 and template["taken"].startswith("2026-03-01T07:30"), template
    page.get_by_role("link", name="Look at Carla Neu").first.click()
    visit.settled()
    assert "camera 3" in page.locator("main").inner_text()
    drawn(visit, "ul.cards canvas")
    # Once more, the same picture: the name is known, the picture too.
    page.get_by_role("button", name="Enrol more pictures").click()
    visit.settled()
    page.get_by_text("Carla Neu is enrolled with 1 template").wait_for()
    page.locator("input[type=file]").set_input_files(str(probe("0004")))
    page.get_by_role("button", name="Enrol", exact=True).click()
    page.get_by_text("Enrolled as Carla Neu: 1 template.").first.wait_for()
    page.get_by_text("enrolled already").wait_for()
    shot(visit, "enrol-warning")
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("The new templates were removed again.").first.wait_for()
    assert service.named("Carla Neu")["templates"] == 1
    # From a result, with its picture.
    visit.open("search")
    search(visit, probe("0002")).get_by_role("button", name="Enrol this picture").click()
    visit.settled()
    page.get_by_text("1 picture chosen.").wait_for()
    page.get_by_role("textbox", name="Name").fill("Doppel Gänger")
    page.get_by_label("Keep a small picture").uncheck()
    page.get_by_role("button", name="Enrol", exact=True).click()
    page.get_by_text("Enrolled as Doppel Gänger").first.wait_for()
    assert service.named("Doppel Gänger")["picture"] is None
    visit.close()


def flow_merge_and_remove(chromium, services):
    """Two people are merged, a template and then a person removed; nothing happens without a yes."""
    service = services.people
    service.enrol("Eva Eins", pictures("0003")[:2])
    service.enrol("Eva Zwei", pictures("0003")[2:3])
    visit = Visit(chromium, service.url)
    page = visit.open(f"people/{service.named('Eva Eins')['id']}")
    assert page.locator("h1").inner_text() == "Eva Eins" and page.locator("ul.cards > li").count() == 2
    page.get_by_role("button", name="Merge with…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Search by name").fill("eva")
    dialog.get_by_role("button", name="Eva Zwei").wait_for()
    visit.axe("the choice of a person")
    assert dialog.get_by_role("button", name="Eva Eins").count() == 0
    shot(visit, "merge-choice")
    dialog.get_by_role("button", name="Eva Zwei").click()
    page.get_by_role("dialog", name="Merge two people?").get_by_role("button", name="Cancel").click()
    assert service.named("Eva Zwei")
    page.get_by_role("button", name="Merge with…").click()
    dialog.get_by_label("Search by name").fill("eva z")
    dialog.get_by_role("button", name="Eva Zwei").click()
    page.get_by_role("dialog", name="Merge two people?").get_by_role("button", name="Merge", exact=True).click()
    heard(visit, "Eva Zwei is now part of Eva Eins.")
    page.wait_for_function("() => document.querySelectorAll('ul.cards > li').length === 3")
    assert service.named("Eva Zwei") is None
    drawn(visit, "ul.cards canvas")
    page.get_by_role("button", name="Remove (Template 3)").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
    page.wait_for_function("() => document.querySelectorAll('ul.cards > li').length === 2")
    page.get_by_role("button", name="Remove this person").click()
    page.keyboard.press("Escape")
    assert service.named("Eva Eins")["templates"] == 2
    page.get_by_role("button", name="Remove this person").click()
    visit.axe("the question before a removal")
    shot(visit, "remove")
    page.get_by_role("dialog").get_by_role("button", name="Remove this person").click()
    heard(visit, "Eva Eins was removed.")
    page.wait_for_function("() => location.hash === '#/people'")
    assert service.named("Eva Eins") is None
    visit.close()


def flow_two_hundred(chromium, services):
    """Two hundred people are paged through and searched by name."""
    service = services.many
    visit = Visit(chromium, service.url)
    page = visit.open("people")
    cards = page.locator("ul.cards > li")
    assert cards.count() == 24 and page.get_by_text("1 to 24 of 200").is_visible()
    assert page.get_by_role("button", name="Previous").is_disabled()
    seen = set()
    for at in range(9):
        seen |= set(page.locator("ul.cards .name").all_inner_texts())
        if at < 8:
            page.get_by_role("button", name="Next").click()
            page.get_by_text(f"{24 * (at + 1) + 1} to").wait_for()
    assert len(seen) == 200 and page.get_by_role("button", name="Next").is_disabled()
    # Going to somebody and back leads to the same page of the list.
    page.locator("ul.cards a").first.click()
    visit.settled()
    page.wait_for_function("() => document.querySelector('h1').textContent.startsWith('Person')")
    page.go_back()
    page.get_by_text("193 to 200").wait_for()
    page.get_by_role("button", name="Previous").click()
    page.get_by_text("169 to 192").wait_for()
    page.get_by_label("Search by name").fill("person 12")
    page.wait_for_function("() => document.querySelectorAll('ul.cards > li').length === 10")
    page.get_by_label("Search by name").fill("nobody at all")
    page.get_by_text("Nobody has such a name.").wait_for()
    page.get_by_label("Search by name").fill("")
    page.wait_for_function("() => document.querySelectorAll('ul.cards > li').length === 24")
    drawn(visit, "ul.cards > li:nth-child(-n+6) canvas")
    shot(visit, "people-200")
    visit.close()


def flow_threshold(chromium, services):
    """The slider tells both rates by keyboard; a threshold is taken into use; searches decide by it."""
    service = services.people
    visit = Visit(chromium, service.url)
    page = visit.open("threshold")
    before = service.ask("GET", "v1/info")["gallery"]["threshold"]
    slider = page.get_by_role("slider")
    rates = lambda: page.locator(".tile b").all_inner_texts()
    slider.focus()
    page.keyboard.press("Home")
    low = rates()
    page.keyboard.press("End")
    high = rates()
    percent = lambda text: float(re.sub(r"[^\d.]", "", text))
    assert percent(low[0]) > percent(high[0]) and percent(low[1]) <= percent(high[1]), (low, high)
    page.wait_for_timeout(800)
    heard(visit, "strangers")
    rows = page.locator("table.numbers").first.locator("tbody tr")
    assert rows.count() >= 2 and "Comparison (1:1)" in page.locator("table.numbers").first.inner_text()
    page.locator("table.numbers button").first.click()
    tried = float(page.get_by_label("As a number").input_value())
    shot(visit, "threshold")
    page.get_by_role("button", name="Use this threshold").click()
    heard(visit, "The service now uses")
    assert abs(service.ask("GET", "v1/info")["gallery"]["threshold"] - tried) < 1e-4
    assert f"{tried:.4f}" in page.locator(".meaning").inner_text()
    page.get_by_label("As a number").fill("0.99999")
    page.get_by_role("button", name="Use this threshold").click()
    page.wait_for_function("() => document.querySelector('.meaning').textContent.includes('1.0000')")
    visit.open("search")
    result = search(visit, probe("0004", 1))
    assert result.locator(".answer").inner_text().startswith("Nobody."), result.locator(".answer").inner_text()
    assert "too little to count as found" in result.locator(".why").first.inner_text()
    service.ask("PUT", "v1/threshold", json.dumps({"similarity": before}).encode())
    visit.close()


def flow_nothing_calibrated(chromium, services):
    """Without a calibration and with nobody enrolled, the page says so and claims nothing."""
    service = services.empty
    visit = Visit(chromium, service.url)
    page = visit.open("search")
    assert "Nobody is enrolled yet." in page.locator("main").inner_text()
    assert "only rank and decide nothing" in page.locator(".meaning").inner_text()
    result = search(visit, probe())
    assert result.locator(".answer").inner_text() == "The gallery is empty."
    shot(visit, "search-empty")
    visit.open("people")
    page.get_by_text("Nobody is enrolled yet.").wait_for()
    visit.open("threshold")
    page.get_by_text("Nothing was calibrated for searches").first.wait_for()
    assert page.locator(".tile").count() == 0 and page.locator("svg.curve").count() == 0
    visit.axe("a threshold without a calibration")
    shot(visit, "threshold-uncalibrated")
    service.enrol("Anna Müller", pictures("0001"))
    visit.open("search")
    page.reload()
    visit.settled()
    result = search(visit, probe())
    assert "Without a threshold nothing is decided." in result.locator(".answer").inner_text()
    assert result.locator(".badge").count() == 0
    visit.close()


def flow_service(chromium, services):
    """Model, device and card are shown, the numbers change and can be stopped."""
    service = services.people
    visit = Visit(chromium, service.url)
    page = visit.open("service")
    text = page.locator("main").inner_text()
    info = service.ask("GET", "v1/info")
    for fact in [info["model"]["name"], info["model"]["contract"], info["runtime"]["provider"], "Inputs and outputs"]:
        assert fact in text, fact
    total = lambda: page.locator(".tile", has_text=re.compile("requests$")).locator("b").inner_text()
    first = total()
    service.ask("GET", "v1/info")
    page.wait_for_function(
        """(first) => [...document.querySelectorAll('.tile')].find((one) => /requests$/.test(one.textContent))
            .querySelector('b').textContent !== first""",
        arg=first,
    )
    page.wait_for_selector(".spark polyline", state="attached")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(300)
    stopped = total()
    service.ask("GET", "v1/info")
    page.wait_for_timeout(2500)
    assert total() == stopped
    assert "NaN" not in page.locator("main").inner_text() and "undefined" not in page.locator("main").inner_text()
    shot(visit, "service")
    visit.close()


def flow_keys_and_roles(chromium, services):
    """A key is asked for and stays in the tab; a role sees what it may do, and pictures are fetched with the key."""
    service = services.locked
    menus = {
        "read": ["People", "Threshold", "Service"],
        "match": ["Search", "People", "Recent", "Threshold", "Service"],
        "enrol": ["Search", "Enrol", "People", "Recent", "Threshold", "Service"],
        "admin": ["Search", "Enrol", "People", "Recent", "Threshold", "Service"],
    }
    for role, menu in menus.items():
        visit = Visit(chromium, service.url)
        page = visit.open()
        assert page.locator("h1").inner_text() == "Key needed" and not page.locator("header nav").is_visible()
        if role == "read":
            visit.axe("the question for a key")
            shot(visit, "key")
            for wrong in ["vitrine_" + "0" * 64, "schlüssel mit ümlaut"]:
                page.get_by_label("Key", exact=True).fill(wrong)
                page.get_by_role("button", name="Go on").click()
                page.get_by_text("The service does not know this key.").wait_for()
                assert page.evaluate("sessionStorage.length") == 0
        page.get_by_label("Key", exact=True).fill(service.keys[role])
        page.keyboard.press("Enter")
        page.wait_for_selector("header nav a")
        visit.settled()
        assert page.locator("header nav a").all_inner_texts() == menu, role
        stores = page.evaluate(
            "[Object.values(sessionStorage), Object.values(localStorage), document.cookie, location.href]"
        )
        assert stores[0] == [service.keys[role]] and service.keys[role] not in json.dumps(stores[1:]), stores
        visit.open("people")
        drawn(visit, "ul.cards canvas")
        page.locator("ul.cards a").first.click()
        page.wait_for_function("() => document.querySelector('h1').textContent === 'Anna Müller'")
        may = role in ("enrol", "admin")
        assert page.get_by_role("button", name="Remove this person").count() == may
        visit.open("threshold")
        assert page.get_by_role("button", name="Use this threshold").count() == (role == "admin")
        if role != "read":
            visit.open("search")
            result = search(visit, pictures("0001")[0])
            assert result.get_by_role("button", name="That is right").count() == may
        # The tab keeps it over a reload; forgetting it leaves nothing.
        page.reload()
        page.wait_for_selector("header nav a")
        page.get_by_role("button", name="Forget the key").click()
        page.get_by_role("heading", name="Key needed").wait_for()
        assert page.evaluate("sessionStorage.length") == 0
        assert "Anna" not in page.locator("body").inner_text()
        visit.close()


def flow_languages(chromium, services):
    """The browser's language is taken, another can be chosen and is remembered; numbers are written as in it."""
    service = services.people
    visit = Visit(chromium, service.url, locale="de-AT")
    page = visit.open("search")
    assert page.locator("h1").inner_text() == "Wer ist das?" and page.locator("html").get_attribute("lang") == "de"
    result = search(visit, pictures("0001")[0])
    assert "1,0000" in result.inner_text()
    page.get_by_role("combobox", name="Sprache").select_option("zh")
    page.get_by_role("heading", name="这是谁？").wait_for()
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    assert page.locator("section.result").count() == 0
    page.reload()
    page.get_by_role("heading", name="这是谁？").wait_for()
    visit.close()
    visit = Visit(chromium, service.url, locale="fr-FR")
    assert visit.open().locator("html").get_attribute("lang") == "en"
    visit.close()


def flow_keyboard(chromium, services):
    """Everything is reached without a mouse, focus is always somewhere visible, and dialogs give it back."""
    service = services.people
    visit = Visit(chromium, service.url, motion="reduce")
    page = visit.open("people")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    assert page.locator("#skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    stops = []
    for _ in range(60):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => { const one = document.activeElement; if (one === document.body) return null;
                const box = one.getBoundingClientRect(), style = getComputedStyle(one);
                const label = one.matches('input[type=file]') ? getComputedStyle(one.nextElementSibling) : style;
                const text = (one.textContent || one.id).slice(0, 30);
                return [one.tagName, text, label.outlineStyle !== 'none', box.width > 0]; }"""
        )
        if stop is None:
            break
        stops.append(stop)
    assert all(outlined and wide for _, _, outlined, wide in stops), stops
    assert any(text.startswith("Enrol") for _, text, _, _ in stops) and len(stops) >= 8, stops
    page = visit.open(f"people/{service.named('Ben')['id']}")
    remove = page.get_by_role("button", name="Remove this person")
    remove.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('dialog').length === 0")
    assert page.evaluate("document.activeElement.textContent") == "Remove this person"
    assert page.evaluate("getComputedStyle(document.querySelector('button')).transitionDuration") == "0s"
    visit.close()


def flow_names_are_text(chromium, services):
    """No name becomes markup, wherever it is shown."""
    service = services.people
    visit = Visit(chromium, service.url)
    page = visit.open(f"people/{service.named(HOSTILE)['id']}")
    assert page.locator("h1").inner_text() == HOSTILE
    page.get_by_role("button", name="Remove this person").click()
    assert HOSTILE in page.get_by_role("dialog").inner_text()
    page.keyboard.press("Escape")
    visit.open("search")
    result = search(visit, pictures("0005")[0])
    assert HOSTILE in result.inner_text()
    visit.open("people")
    visit.open("matches")
    assert HOSTILE in page.locator("main").inner_text()
    assert page.locator("img").count() == 0 and "taken over" not in page.title()
    visit.close()


def flow_a_pair(chromium, services):
    """A network that takes a pair gets both pictures under their names; one alone is waited for."""
    service = services.pairs
    visit = Visit(chromium, service.url)
    # Playwright is not told the bytes of files in a request.
    visit.context.add_init_script(
        """const own = window.fetch;
        window.sent = [];
        window.fetch = (address, options) => {
            if (options?.body instanceof FormData) window.sent.push([...options.body]);
            return own(address, options);
        };"""
    )
    page = visit.open("enrol")
    one, other, third = probe("0001"), probe("0002"), probe("0004")
    for left, right in [(one, other), (third, one)]:
        page.locator("input[type=file]").nth(0).set_input_files(str(left))
        page.locator("input[type=file]").nth(1).set_input_files(str(right))
        page.locator("ul.cards li", has_text=f"{left.name} + {right.name}").wait_for()
    page.get_by_role("textbox", name="Name").fill("Hanna Hand")
    page.get_by_role("button", name="Enrol", exact=True).click()
    page.get_by_text("Enrolled as Hanna Hand: 2 templates.").first.wait_for()
    visit.open("search")
    assert page.locator(".drop").count() == 2 and "Palm vein" in page.locator("main").inner_text()
    page.evaluate("window.sent = []")
    page.locator("input[type=file]").nth(0).set_input_files(str(one))
    heard(visit, "Still missing: Palm vein.")
    assert page.evaluate("window.sent.length") == 0
    shot(visit, "pair")
    page.locator("input[type=file]").nth(1).set_input_files(str(other))
    result = page.locator("section.result:not(.busy)", has_text=f"{one.name} + {other.name}")
    result.wait_for()
    assert "Hanna Hand, 1.0000" in result.locator(".answer").inner_text()
    parts = page.evaluate(
        """() => Promise.all(window.sent.flat().map(async ([name, file]) =>
            [name, file.name, [...new Uint8Array(await file.arrayBuffer())]]))"""
    )
    assert [part[:2] for part in parts] == [["palm", one.name], ["vein", other.name]], parts
    assert [bytes(part[2]) for part in parts] == [one.read_bytes(), other.read_bytes()]
    visit.axe("a pair")
    # The other way round it is another pair.
    page.locator("input[type=file]").nth(0).set_input_files(str(other))
    page.locator("input[type=file]").nth(1).set_input_files(str(one))
    swapped = page.locator("section.result:not(.busy)", has_text=f"{other.name} + {one.name}")
    swapped.wait_for()
    assert float(swapped.locator("li.person .number").first.inner_text()) < 0.9999
    visit.close()


def flow_out_of_reach(chromium, services):
    """When the service is gone the page says so, and works again once it is back."""
    service = services.empty
    visit = Visit(chromium, service.url)
    page = visit.open("people")
    service.stop()
    page.get_by_role("link", name="Threshold").click()
    page.get_by_text("The service does not answer.").wait_for()
    shot(visit, "offline")
    visit.axe("the service out of reach")
    service.start()
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("heading", name="Try a threshold").wait_for()
    # Busy is told with when to come back.
    visit.page.route(
        "**/v1/search*",
        lambda route: route.fulfill(
            status=429,
            headers={"Retry-After": "3"},
            json={
                "error": {
                    "what": "this key asks too often",
                    "where": "key",
                    "found": "",
                    "allowed": "100 requests a second",
                    "flag": "--rate",
                }
            },
        ),
    )
    visit.open("search")
    page.locator("input[type=file]").set_input_files(str(probe()))
    page.get_by_text("Try again in 3 seconds.").wait_for()
    assert "--rate" in page.locator("section.result").inner_text()
    visit.close()


def flow_axe(chromium, services):
    """No view has anything that axe objects to, in light, in dark and on a phone, nor anything wider than a phone."""
    service, many = services.people, services.many
    person = service.named(LONG)["id"]
    views = ["search", "enrol", "people", f"people/{person}", "matches", "threshold", "service"]
    for look, options in {
        "light": {},
        "dark": {"dark": True},
        "phone": {"phone": True, "locale": "de-DE"},
        "chinese": {"phone": True, "dark": True, "locale": "zh-CN"},
    }.items():
        visit = Visit(chromium, service.url, **options)
        for view in views:
            visit.open(view)
            if view == "search":
                search(visit, pictures("0003")[0])
            if view == "enrol":
                visit.page.locator("input[type=file]").set_input_files(str(probe()))
                visit.page.wait_for_selector("ul.cards li")
            if view == "service" and look == "light":
                visit.page.wait_for_selector(".spark polyline", state="attached")
            name = f"{look}-{view.replace('/', '-')}"
            shot(visit, name)
            # The same view in another language is no other for axe.
            if look != "chinese":
                visit.axe(name)
            visit.fits(name)
        visit.close()
    visit = Visit(chromium, many.url, phone=True)
    visit.open("people")
    shot(visit, "phone-people-200")
    visit.axe("200 people on a phone")
    visit.close()
    # A window of 320 pixels is what four times the size leaves of a large one.
    visit = Visit(chromium, service.url)
    visit.page.set_viewport_size({"width": 320, "height": 640})
    for view in views:
        visit.open(view)
        visit.fits(f"{view} at 320 pixels")
    visit.close()


def one_colour(width, height, value):
    """A grey PNG."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes([value]) * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main():
    asked = sys.argv[1:]
    flows = [(name[5:], flow) for name, flow in globals().items() if name.startswith("flow_")]
    flows = [(name, flow) for name, flow in flows if not asked or any(part in name for part in asked)]
    if not flows:
        sys.exit(f"error: no flow has {' or '.join(asked)} in its name")
    shutil.rmtree(SCREENS, ignore_errors=True)
    SCREENS.mkdir(parents=True)
    services, failed = Services(), []
    with browser() as chromium:
        try:
            for name, flow in flows:
                start = time.monotonic()
                try:
                    flow(chromium, services)
                    word = "ok"
                except Exception:
                    traceback.print_exc()
                    failed.append(name)
                    word = "FAILED"
                    for context in chromium.contexts:
                        for at, page in enumerate(context.pages):
                            with contextlib.suppress(Exception):
                                page.screenshot(path=SCREENS / f"failed-{name}-{at}.png", full_page=True)
                        with contextlib.suppress(Exception):
                            context.close()
                print(f"{word:6} {name:24} {time.monotonic() - start:6.1f} s", flush=True)
        finally:
            services.stop()
    print(
        f"page: {len(flows) - len(failed)} flows passed, {len(failed)} failed; "
        f"screenshots in {SCREENS.relative_to(ROOT)}"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
