"""An exchange whose time is moved, and a real browser, for the tests of pages; one of each for all of them."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Error as PlaywrightError

from config.instance import Instance
from tests.web.stage import PASSWORD, PATIENCE_SECONDS, Stage

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
OPENS = datetime(2026, 12, 1, 1, 0, tzinfo=UTC)
PATIENCE_MS = 120_000


@pytest.fixture(scope="session")
def browser_type_launch_args():
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Chromium for the browser tests: apt install chromium fonts-noto-cjk")
        pytest.skip("no Chromium is installed: the browser tests are left out")
    return {"executable_path": CHROMIUM, "args": QUIET.split()}


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    """An exchange with a cast, whose time the stories move."""
    # What is paid out here is small, and all of it takes two persons.
    settings = {"CIYUAN_PAYOUT_MINIMUM_YUAN": "1", "CIYUAN_PAYOUT_APPROVAL_ABOVE_YUAN": "0"}
    instance = Instance(var=tmp_path_factory.mktemp("stage"), clock=True, settings=settings)
    instance.set_clock(product=OPENS, speed=1)
    with instance.started(wait=False):
        instance.wait_ready(PATIENCE_SECONDS)
        yield Stage(instance)
    instance.remove()


@pytest.fixture(scope="session")
def played(stage):
    """Its markets `settled`, `continuous` and `call`, with all that came of the first one."""
    return stage.played()


class Visitor:
    """One browser window that keeps an account of what a page must never do."""

    def __init__(self, context, base_url: str) -> None:
        self.page = context.new_page()
        self.base_url = base_url
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self._hear(message.type, message.text, message.location.get("url")))
        self.page.on("pageerror", lambda error: self._hear("error", str(error)))
        self.page.on("request", lambda request: self._see(request.url))

    def _hear(self, kind: str, text: str, of: str | None = None) -> None:
        if kind == "error" and "status of 422" not in text:
            self.complaints.append(f"{self.page.url}: {text} {of or ''}")

    def _see(self, url: str) -> None:
        if not url.startswith((self.base_url, self.base_url.replace("http", "ws", 1), "data:", "blob:")):
            self.complaints.append(f"{self.page.url} asks another host: {url}")

    def go(self, path: str):
        """Open a page; it is there. A market's page that renews itself at that moment is left all the same."""
        try:
            answer = self.page.goto(self.base_url + path)
        except PlaywrightError as error:
            if "ERR_ABORTED" not in str(error):
                raise
            answer = self.page.goto(self.base_url + path)
        assert answer.status < 400, f"{path}: {answer.status}"
        return self.page

    def sign_in(self, email: str, password: str = PASSWORD) -> None:
        page = self.go("/accounts/login/")
        page.fill("input[name=login]", email)
        page.fill("input[name=password]", password)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda url: "/accounts/login" not in url)


@pytest.fixture(scope="session")
def signed_in():
    """Who has signed in, with the cookies of it: everybody does so once."""
    return {}


@pytest.fixture
def visitor(browser, stage, signed_in):
    """A function that opens windows: visitor(), visitor("buyer", locale="en", width=360)."""
    contexts = []

    def opened(role: str | None = None, *, locale: str = "zh-CN", width: int = 1280, scheme: str = "light"):
        context = browser.new_context(
            locale=locale, viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce",
            storage_state=signed_in.get(role),
        )  # fmt: skip
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        window = Visitor(context, stage.instance.base_url)
        if role and role not in signed_in:
            if role == "operator":
                operator = json.loads((stage.instance.var / "operator.json").read_text())
                window.sign_in(operator["email"], operator["password"])
            else:
                window.sign_in(f"{role}@stage.example")
            signed_in[role] = context.storage_state()
        return window

    yield opened
    for context in contexts:
        context.close()
