"""`manage.py load_catalogue`."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from providers.models import Accelerator, Grade, ModelCard

pytestmark = pytest.mark.django_db


def load(**options) -> str:
    out = StringIO()
    call_command("load_catalogue", stdout=out, **options)
    return out.getvalue()


def test_loads_everything_once():
    assert "27 accelerators, 15 model cards and 3 grades" in load()
    assert "0 accelerators, 0 model cards and 0 grades" in load()
    vendors = set(Accelerator.objects.values_list("vendor", flat=True))
    assert {"NVIDIA", "Huawei", "Cambricon", "Moore Threads", "Hygon", "MetaX", "AMD", "Intel"} <= vendors
    assert Grade.objects.get(slug="qwen3-32b-batch-cn").model_card.slug == "qwen3-32b"


def test_every_figure_has_its_source_and_date():
    load()
    for row in Accelerator.objects.all():
        assert row.source and row.as_of.year >= 2020
        if not row.unverified:
            assert row.gflops, row.slug


def test_the_reference_model_is_one_standard_token():
    load()
    card = ModelCard.objects.get(slug="reference-7b").standard_card()
    from ciyuan.standard_token import REFERENCE_7B, work

    assert card == REFERENCE_7B
    assert work(card, 2_047, 0, 1).output_micro_st == 1_000_000


def test_corrected_figures_replace_the_old_ones(tmp_path):
    load()
    entry = {
        "slug": "nvidia-h20-96gb", "vendor": "NVIDIA", "name": "H20 96GB", "memory_bytes": 96 * 2**30,
        "bandwidth_bytes_per_second": 4_022 * 10**9, "gflops": {"bf16": 148_000}, "source": "datasheet",
        "as_of": "2026-01-01",
    }  # fmt: skip
    path = tmp_path / "accelerators.json"
    path.write_text(json.dumps([entry]))
    assert "1 accelerators" in load(accelerators=path)
    row = Accelerator.objects.get(slug="nvidia-h20-96gb")
    assert (row.bandwidth_bytes_per_second, row.unverified) == (4_022 * 10**9, [])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[", "accelerators.json"),
        ('{"slug": 1}', "list of objects"),
        ('[{"slug": "x"}]', "as_of"),
        ('[{"slug": "x", "as_of": "2026-01-01"}]', "missing"),
        ('[{"slug": "x", "as_of": "2026-01-01", "colour": 1}]', "colour"),
    ],
)
def test_a_wrong_file_is_named_with_its_entry(tmp_path, content, says):
    path = tmp_path / "accelerators.json"
    path.write_text(content)
    with pytest.raises(CommandError, match=says):
        load(accelerators=path)
