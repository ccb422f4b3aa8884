"""Pages to look things up: the calculator agrees with the published check values, the calendar with the markets."""

import pytest

from core import clock
from tests.given import given_grade, given_market

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


def test_the_calculator_gives_the_published_check_values(client):
    grade = given_grade()
    asked = {"grade": grade.slug, "input_tokens": "4,808", "cached_tokens": "4096", "output_tokens": "10"}
    page = client.get("/standard-token", asked, headers=EN).content.decode()
    for value in ("118.223031", "62.763577", "14.49534"):
        assert value in page
    assert "¥0.003" in page  # the grade's reference price
    wrong = client.get("/standard-token", asked | {"cached_tokens": "5,000"}, headers=EN)
    assert wrong.status_code == 422 and b"more than input_tokens" in wrong.content
    assert client.get("/standard-token", asked | {"grade": "nonsense"}).status_code == 422
    assert client.get("/standard-token").status_code == 200


def test_the_calendar_lists_what_is_ahead_and_can_be_taken_along(client):
    market = given_market(now=clock.now())
    assert f'href="/markets/{market.pk}"' in client.get("/calendar", headers=EN).content.decode()
    ics = client.get("/calendar.ics", headers=EN).content.decode()
    assert ics.startswith("BEGIN:VCALENDAR\r\n") and ics.endswith("END:VCALENDAR\r\n")
    assert f"DTEND:{market.call_closes_at:%Y%m%dT%H%M%SZ}" in ics
    assert all(len(line.encode()) <= 75 for line in ics.split("\r\n"))


def test_the_index_has_a_value_or_says_why_not(client):
    assert client.get("/index", headers=EN).status_code == 200
    market = given_market(now=clock.now())
    page = client.get("/index", {"grade": market.grade.slug}, headers=EN).content.decode()
    assert ("fewer than three sellers" in page and "Volume-weighted" in page) or "volume-weighted" in page
    assert client.get("/index", {"grade": "nonsense"}).status_code == 404


def test_the_fee_schedule_says_what_the_code_charges(client):
    given_grade()
    page = client.get("/fees", headers=EN).content.decode()
    for figure in ("<b>2%</b>", "<b>20%</b>", "<b>150%</b>", "from 10% (never failed) to 50%", "15 days after issue"):
        assert figure in page, figure
