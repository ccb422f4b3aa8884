"""Public pages of the catalogue: accelerators, each with its own ratio beside the standard's."""

from ciyuan.standard_token import WORK_UNITS_PER_BYTE
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from providers.domain.roofline import work_units_per_byte_tenths
from providers.models import Accelerator


def _ratio(row: Accelerator) -> str | None:
    tenths = work_units_per_byte_tenths(row.hardware())
    return None if tenths is None else f"{tenths // 10}.{tenths % 10}"


@require_GET
def accelerators(request: HttpRequest) -> HttpResponse:
    """All accelerators of the catalogue."""
    rows = [(row, _ratio(row)) for row in Accelerator.objects.order_by("vendor", "name")]
    return render(request, "providers/accelerators.html", {"rows": rows, "standard": WORK_UNITS_PER_BYTE})


@require_GET
def accelerator(request: HttpRequest, accelerator: str) -> HttpResponse:
    """One accelerator: its published figures, their source, and what its ratio means."""
    row = get_object_or_404(Accelerator, slug=accelerator)
    tenths = work_units_per_byte_tenths(row.hardware())
    leaning = None if tenths is None else "output" if tenths < WORK_UNITS_PER_BYTE * 10 else "input"
    return render(
        request,
        "providers/accelerator.html",
        {
            "row": row,
            "ratio": _ratio(row),
            "standard": WORK_UNITS_PER_BYTE,
            "leaning": leaning,
            "memory_gib": row.memory_bytes // 2**30 if row.memory_bytes else None,
            "bandwidth_gb": row.bandwidth_bytes_per_second // 10**9 if row.bandwidth_bytes_per_second else None,
            "gflops": sorted(row.gflops.items()),
        },
    )
