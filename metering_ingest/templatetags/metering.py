"""What pages of lower apps show of metered usage."""

from django import template

from core import clock
from metering_ingest.page_queries import delivered_today_micro_st

register = template.Library()


@register.simple_tag
def delivered_today() -> int:
    """Return the micro-standard-tokens that providers' meters reported of today's windows, at most a minute old."""
    return delivered_today_micro_st(clock.now())
