"""How pages write figures and times."""

from types import SimpleNamespace

from django.utils.translation import override

from core.templatetags.ciyuan import grouped, instant, moment, named


def test_decimals_of_documents_are_grouped_and_a_sign_stands_before_the_currency():
    assert [grouped(one) for one in ("1000.00", "-1234567.8", "0.5", "")] == ["1,000.00", "−1,234,567.8", "0.5", ""]
    assert [grouped(one, "¥") for one in ("1000.00", "-5.00")] == ["¥1,000.00", "−¥5.00"]


def test_a_moment_kept_as_text_is_shown_in_shanghai():
    assert ">12-01 18:05<" in moment(instant("2026-12-01T10:05:00+00:00"), "minute")


def test_names_are_in_the_readers_language_where_there_is_one():
    both, one = SimpleNamespace(name="Lantern", name_zh="灯笼"), SimpleNamespace(name="Lantern", name_zh="")
    with override("zh-hans"):
        assert (named(both), named(one)) == ("灯笼", "Lantern")
    with override("en"):
        assert named(both) == "Lantern"
