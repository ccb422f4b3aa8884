"""
Every page that a link or an address leads to, in both languages and both themes, and at the width of a phone: it is
there, axe finds nothing, nothing complains, nothing asks another host, nothing is wider than the window.
"""

import re
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import get_resolver

pytestmark = [pytest.mark.browser, pytest.mark.processes]

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
ELSEWHERE = ("/v1/", "/admin", "/accounts", "/docs", "/i18n", "/static", "/metrics", "/healthz", "/readyz", "/.well")
#: Pages that show each role something else.
OF_EACH = {"/overview", "/markets/N", "/contracts/N", "/organization", "/fees", "/rules", "/account"}


def addresses():
    """Every page without a parameter, as the resolver knows it."""
    for pattern in get_resolver().url_patterns:
        address = "/" + str(pattern.pattern)
        plain = not hasattr(pattern, "url_patterns") and not pattern.pattern.converters
        if plain and not address.startswith(ELSEWHERE):
            yield address
    yield from ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/")


def kind(path):
    """The path with N for what is a number or an id in it."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/)\d+", "N", path)


def every_page(window, seen):
    """Open each kind of page once: all addresses, and where their links lead."""
    waiting, known = list(addresses()), set()
    while waiting:
        path = waiting.pop(0)
        if kind(path) in known or (kind(path) in seen and kind(path) not in OF_EACH):
            continue
        known.add(kind(path))
        answer = window.page.request.get(window.base_url + path, max_redirects=0)
        if answer.status in (302, 403, 405) or "text/html" not in answer.headers.get("content-type", ""):
            continue  # not this role's, a form's target, or a file
        assert answer.status == 200, f"{path}: {answer.status}"
        page = window.go(path)
        links = page.eval_on_selector_all("main a[href], footer a[href]", "all => all.map((one) => one.href)")
        for link in links:
            to = urlsplit(link)
            if link.startswith(window.base_url) and not to.path.startswith(ELSEWHERE):
                waiting.append(to.path)
        yield path
    seen |= known


def looked_through(window, seen, *, axe=True):
    """What is wrong with the pages of one role, page by page."""
    found = {}
    for path in every_page(window, seen):
        wide = window.page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth ? [] :
                [...document.querySelectorAll("main *, header *")]
                    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1).slice(0, 3)
                    .map((one) => one.outerHTML.slice(0, 100))"""
        )
        if wide:
            found[path] = ["wider than the window", *wide]
        if axe:
            violations = Axe().run(window.page, options=RULES).response["violations"]
            if violations:
                found[path] = [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in violations]
    assert not window.complaints, window.complaints
    return found


@pytest.mark.parametrize(("locale", "scheme"), [("zh-CN", "light"), ("en", "dark")])
def test_axe_finds_nothing_and_no_page_complains(visitor, stage, played, locale, scheme):
    seen, found = set(), {}
    for role in (None, "buyer", "provider", "operator"):
        window = visitor(role, locale=locale, scheme=scheme)
        wrong = looked_through(window, seen)
        for market in (played.call, played.continuous, played.settled) if role in (None, "buyer") else ():
            window.go(f"/markets/{market.id}")
            for one in Axe().run(window.page, options=RULES).response["violations"]:
                wrong[f"/markets/{market.id}"] = one["id"], [node["html"][:120] for node in one["nodes"][:3]]
        assert not window.complaints, window.complaints
        found |= {f"{role} {path}": what for path, what in wrong.items()}
    assert found == {}
    assert len(seen) > 40, seen


def test_every_page_fits_a_phone(visitor, stage, played):
    seen, found = set(), {}
    for role in ("buyer", "provider"):
        window = visitor(role, width=360)
        for market in (played.call, played.continuous, played.settled):
            window.go(f"/markets/{market.id}")
            if not window.page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
                found[f"{role} market {market.id}"] = "wider than the window"
        found |= {f"{role} {path}": what for path, what in looked_through(window, seen, axe=False).items()}
    assert found == {}
