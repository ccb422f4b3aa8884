"""Problems on Chinese pages: the sentence in Chinese with its figures, and each listed sentence is one that is made."""

import ast
import re
from pathlib import Path

import pytest
from django.utils.translation import override

from identity.problem_texts import SENTENCES, in_readers_language
from tests.given import given_deployment, given_user

ROOT = Path(__file__).resolve().parents[2]
APPS = ("core", "identity", "providers", "billing", "exchange", "metering_ingest")
#: Where sentences are made that members meet, besides actions and domain.
ELSEWHERE = ("access.py", "once.py", "quote_queries.py", "typed.py")


def made():
    """The texts of the sources, as what stands between their figures."""
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            if {"actions", "domain"} & {*path.parts} or path.name in ELSEWHERE:
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.JoinedStr):
                        parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
                        yield tuple(parts)
                    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                        yield (node.value,)


def makes(parts, detail):
    """Whether these parts, with anything for their figures, make the sentence, half of it at least of its own words."""
    own = [part for part in parts if part]
    if 2 * sum(map(len, own)) <= len(detail) or not all(part in detail for part in own):
        return False
    return re.fullmatch("".join(".+" if part is None else re.escape(part) for part in parts), detail, re.DOTALL)


def test_every_sentence_is_one_that_is_made_and_has_its_chinese():
    sources = {parts for parts in made() if (parts[-1] or "").endswith(".")}
    for one in SENTENCES:
        detail = re.sub(r"%\(\w+\)s", "7", one).replace("%%", "%")
        assert any(makes(parts, detail) for parts in sources), one
    with override("zh-hans"):
        for one in SENTENCES:
            detail = re.sub(r"%\(\w+\)s", "1,234", one).replace("%%", "%")
            chinese = in_readers_language(detail)
            assert chinese != detail and chinese.count("1,234") == detail.count("1,234"), one
    with override("en"):
        assert in_readers_language("A price is above zero.") == "A price is above zero."


def test_what_is_not_listed_is_said_as_it_is():
    with override("zh-hans"):
        assert in_readers_language("Something new: 7 of it.") == "Something new: 7 of it."


@pytest.mark.django_db
def test_a_form_says_it_in_chinese_at_its_field(client):
    deployment = given_deployment()
    client.force_login(given_user(deployment.provider))
    fields = {
        "key": "one", "name": "bj-1", "grade": deployment.grade_id, "accelerator": deployment.accelerator_id,
        "accelerator_count": 1, "engine": "vLLM", "precision": "bf16", "region": "cn-north",
        "endpoint": "http://api.example.com/v1", "rated_tokens_per_minute": "1000",
    }  # fmt: skip
    page = client.post("/deployments/new", fields, headers={"Accept-Language": "zh-hans"})
    assert page.status_code == 422 and "服务地址须为 https://；仅内网可用 http。" in page.content.decode()
