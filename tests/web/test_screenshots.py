"""
`make screenshots`: pages in both languages and themes, at a desk and on a phone, into screenshots/ (git ignores it).

A page is opened once a language; theme and width change in place, so that all of it takes a few minutes.
"""

import shutil
from pathlib import Path

import pytest

from tests.web.test_every_page import every_page, kind

pytestmark = [pytest.mark.screenshots, pytest.mark.browser, pytest.mark.processes]

FOLDER = Path(__file__).resolve().parents[2] / "screenshots"
CONSOLE = (
    "/admin/", "/admin/exchange/market/", "/admin/identity/organization/", "/admin/identity/organization/1/change/",
    "/admin/identity/auditentry/", "/admin/billing/invoice/", "/admin/providers/grade/",
)  # fmt: skip
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 800}
VIEWS = (("light", DESK), ("dark", DESK), ("dark", PHONE), ("light", PHONE))
#: Pages that show something only where something is asked for.
ASKED = ("/quote?grade=story&input_tokens=2,000&output_tokens=500&requests=1,000,000",
         "/standard-token?grade=story&input_tokens=2,000&output_tokens=500", "/usage?days=31&by=contract",
         "/usage?days=31&by=day", "/markets?phase=settled", "/account?account=bond")  # fmt: skip


class Taken(set):
    """Kinds of pages that have their pictures; of accelerators' pages, which are alike, one is enough."""

    def __contains__(self, path):
        alike = "/accelerators/"
        return super().__contains__(path) or (path.startswith(alike) and any(one.startswith(alike) for one in self))


def pictures(window, name, locale):
    """Take the page that is open in every theme and width."""
    page = window.page
    for scheme, size in VIEWS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        folder = FOLDER / f"{locale}-{scheme}-{size['width']}"
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", full_page=True, animations="disabled", caret="initial")
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")


def named(role, path):
    """The name of a page's pictures."""
    plain = kind(path).replace("/", "-").replace("?", "_").replace("&", "_").strip("-") or "home"
    return f"{role or 'visitor'}-{plain}"


@pytest.mark.parametrize("locale", ["zh-CN", "en"])
def test_pictures(visitor, played, locale):
    for folder in FOLDER.glob(f"{locale}-*"):
        shutil.rmtree(folder)
    taken = Taken()
    for role in (None, "buyer", "provider", "operator"):
        window = visitor(role, locale=locale)
        known = Taken(taken)  # a page that was refused to one role is another's to open
        for path in every_page(window, known):
            pictures(window, named(role, path), locale)
            for kinds in (taken, known):
                kinds.add(kind(path))
        for phase, market in vars(played).items() if role in (None, "buyer") else ():
            window.go(f"/markets/{market.id}")
            pictures(window, f"{role or 'visitor'}-market-{phase}", locale)
        for path in {"buyer": ASKED, "operator": CONSOLE}.get(role or "", ()):
            window.go(path)
            pictures(window, named(role, path), locale)
    assert len(taken) > 40, taken
