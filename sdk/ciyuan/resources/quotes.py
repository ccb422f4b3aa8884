"""Upfront quotes."""

from __future__ import annotations

from datetime import datetime

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Resource, endpoint, write
from ciyuan.resources.values import given, window_body


class Quotes(Resource[Mode]):
    @endpoint
    def get(
        self,
        *,
        grade: str | int | None = None,
        model: str | None = None,
        input_tokens: int,
        output_tokens: int,
        cached_tokens: int = 0,
        requests: int = 1,
        service_class: str | None = None,
        window: tuple[datetime | str, datetime | str] | None = None,
    ) -> Call[r.Quote]:
        """What a request or a workload costs: at list, at the book now, in the next off-peak auction. Binds nobody."""
        body = given(
            grade=None if grade is None else str(grade),
            model=model,
            input_tokens=input_tokens,
            cached_tokens=cached_tokens,
            output_tokens=output_tokens,
            requests=requests,
            service_class=service_class,
            window=None if window is None else window_body(window),
        )
        return write("POST", "/v1/quotes", r.Quote, body)
