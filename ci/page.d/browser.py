"""Chromium under Playwright, and what is asked of every view: nothing from elsewhere, no error, nothing for axe."""

import contextlib
import hashlib
import shutil
import sys
from importlib.resources import files
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

# What axe calls them: WCAG 2.2 up to AA, and its own best practices.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
# Of axe-core 4.12.1.
AXE_SHA256 = "84494fec757e4710dc751c8d7a636e457f4532f08f85c86dc9070133fbff53bc"
if (found := hashlib.sha256(AXE.encode()).hexdigest()) != AXE_SHA256:
    sys.exit(f"error: axe.min.js has the checksum {found}, not {AXE_SHA256}")
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
# A picture that moves instead of a camera; without a sandbox because tests run as root in containers.
ARGUMENTS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--disable-dev-shm-usage", "--disable-gpu"]


@contextlib.contextmanager
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        try:
            yield chromium
        finally:
            chromium.close()


class Visit:
    """A visitor with storage of their own: a page, what it has asked for, and what went wrong in it."""

    def __init__(self, chromium, url, *, phone=False, dark=False, locale="en-GB", motion="no-preference", camera=True):
        options = {"viewport": PHONE if phone else DESK, "locale": locale, "color_scheme": "dark" if dark else "light"}
        if phone:
            options |= {"has_touch": True, "is_mobile": True, "device_scale_factor": 2}
        self.context = chromium.new_context(reduced_motion=motion, timezone_id="Europe/Berlin", **options)
        if camera:
            self.context.grant_permissions(["camera"], origin=url)
        self.context.set_default_timeout(10_000)
        self.url = url
        self.page = self.context.new_page()
        self.errors = []
        self.elsewhere = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("request", self._request)

    def _console(self, message):
        # Chromium reports refused requests as errors of their own; the flows look at what the page makes of them.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def _request(self, request):
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.elsewhere.append(request.url)

    def open(self, view=""):
        self.page.goto(f"{self.url}/#/{view}")
        self.settled()
        return self.page

    def settled(self):
        """After the view has come."""
        self.page.wait_for_selector("main h1")
        self.page.wait_for_function("() => !document.querySelector('main').hasAttribute('aria-busy')")

    def axe(self, what):
        """Fails on any violation."""
        # The isolated world of Playwright may evaluate what the page's own policy forbids.
        self.page.evaluate(AXE)
        found = self.page.evaluate("tags => axe.run(document, { runOnly: tags })", TAGS)
        lines = [
            f"{rule['id']}: {rule['help']}: {node['html'][:160]} ({node['failureSummary'].splitlines()[-1].strip()})"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]
        assert found["passes"], f"{what}: axe has looked at nothing"
        assert not lines, f"{what}: axe objects:\n  " + "\n  ".join(lines)

    def fits(self, what):
        """Nothing is wider than the window."""
        wide = self.page.evaluate(
            """(width) => [document.documentElement.scrollWidth - width,
                [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > width + 1
                    && !one.closest('.scroll, pre, header nav')).slice(0, 3)
                    .map((one) => one.outerHTML.slice(0, 120))]""",
            self.page.viewport_size["width"],
        )
        assert wide[0] <= 0, f"{what} is {wide[0]} pixels wider than the window: {wide[1]}"

    def close(self):
        """Ends the visit; nothing may have gone wrong during it."""
        self.context.close()
        assert not self.errors, f"errors in the page: {self.errors}"
        assert not self.elsewhere, f"requests to elsewhere: {self.elsewhere}"
