"""`make screenshots`: the main pages in both languages and both themes, into screenshots/ (which git ignores)."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.screenshots, pytest.mark.browser, pytest.mark.processes]

FOLDER = Path(__file__).resolve().parents[2] / "screenshots"
PAGES = {
    None: ("/", "/markets", "/auctions", "/standard-token", "/calendar", "/accounts/login/"),
    "buyer": ("/overview", "/orders", "/contracts", "/usage", "/invoices", "/account", "/organization"),
    "provider": ("/overview", "/deployments", "/capacity", "/capacity/new", "/deliveries", "/meters", "/statements"),
    "operator": ("/admin/", "/admin/exchange/market/"),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["zh-CN", "en"])
def test_pictures(visitor, living, locale, scheme):
    folder = FOLDER / f"{locale}-{scheme}"
    folder.mkdir(parents=True, exist_ok=True)
    for role, paths in PAGES.items():
        window = visitor(role, locale=locale, scheme=scheme)
        for path in paths:
            page = window.go(path)
            page.wait_for_timeout(300)
            name = f"{role or 'visitor'}{path.replace('/', '-').rstrip('-') or '-home'}"
            page.screenshot(path=folder / f"{name}.png", full_page=True)
    buyer = visitor("buyer", locale=locale, scheme=scheme)
    for phase in ("call", "settled"):
        page = buyer.go(f"/markets?phase={phase}")
        link = page.locator("main table a[href^='/markets/']").first
        if link.count():
            link.click()
            page.wait_for_timeout(800)
            page.screenshot(path=folder / f"buyer-market-{phase}.png", full_page=True)
            page.screenshot(path=folder / f"buyer-market-{phase}-screen.png")
    assert len(list(folder.glob("*.png"))) >= sum(map(len, PAGES.values()))
