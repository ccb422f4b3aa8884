"""`make screenshots`: the pages in both languages and themes, and on a phone, into screenshots/ (git ignores it)."""

from pathlib import Path

import pytest

from tests.web.test_every_page import every_page, kind

pytestmark = [pytest.mark.screenshots, pytest.mark.browser, pytest.mark.processes]

FOLDER = Path(__file__).resolve().parents[2] / "screenshots"
CONSOLE = ("/admin/", "/admin/exchange/market/", "/admin/identity/organization/", "/admin/identity/auditentry/")


@pytest.mark.parametrize(
    ("locale", "scheme", "width"),
    [("zh-CN", "light", 1280), ("zh-CN", "dark", 1280), ("en", "light", 1280), ("en", "dark", 1280),
     ("zh-CN", "light", 360)],
)  # fmt: skip
def test_pictures(visitor, played, locale, scheme, width):
    folder = FOLDER / f"{locale}-{scheme}-{width}"
    folder.mkdir(parents=True, exist_ok=True)
    seen, taken = set(), 0
    for role in (None, "buyer", "provider", "operator"):
        window = visitor(role, locale=locale, scheme=scheme, width=width)

        def picture(path, page=window.page, role=role):
            name = f"{role or 'visitor'}{kind(path).replace('/', '-').rstrip('-') or '-home'}"
            page.screenshot(path=folder / f"{name}.png", full_page=True)

        for path in every_page(window, seen):
            picture(path)
            taken += 1
        if role in (None, "buyer"):
            for phase, market in vars(played).items():
                window.go(f"/markets/{market.id}")
                window.page.wait_for_selector("#figures")
                window.page.screenshot(path=folder / f"{role or 'visitor'}-market-{phase}.png", full_page=True)
        if role == "operator":
            for path in CONSOLE:
                window.go(path)
                picture(path)
    assert taken > 40
