"""Meters, events and usage."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.manifests import Manifest, manifest_call
from ciyuan.resources.values import given, time_text
from ciyuan.signing import Signer

UsageRows = list[r.UsageRow]
Comparisons = list[r.Comparison]


class Meters(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.MeterRecord]]:
        return read("/v1/meters", page_of(r.MeterRecord))

    @endpoint
    def register(
        self,
        /,
        *,
        name: str,
        role: Literal["provider", "buyer", "engine"],
        deployment: int | None = None,
        public_key: str | None = None,
        idempotency_key: str | None = None,
        **further: Any,
    ) -> Call[r.MeterRecord]:
        """
        Register a meter; the answer holds its key's `secret`, once.

        :param public_key: Ed25519, in hex, for a meter that signs.
        """
        body = given(name=name, role=role, deployment=deployment, public_key=public_key, **further)
        return write("POST", "/v1/meters", r.MeterRecord, body, idempotency_key=idempotency_key)

    @endpoint
    def close(self, meter: int, *, idempotency_key: str | None = None) -> Call[r.MeterRecord]:
        return write("DELETE", f"/v1/meters/{meter}", r.MeterRecord, idempotency_key=idempotency_key)

    @endpoint
    def alias(self, *, subject: str, buyer: int, idempotency_key: str | None = None) -> Call[r.Alias]:
        """Let events with this subject be a buyer's usage."""
        body = {"subject": subject, "buyer": buyer}
        return write("POST", "/v1/aliases", r.Alias, body, idempotency_key=idempotency_key)

    @endpoint
    def read_counters(self, exposition: str, *, at: datetime | str | None = None) -> Call[r.Anything]:
        """Post what an engine's /metrics answered, with the key of the engine's meter. Again, it changes nothing."""
        body = given(exposition=exposition, at=time_text("at", at))
        return Call("POST", "/v1/readings", r.Anything, json=body, repeatable=True)


class Events(Resource[Mode]):
    @endpoint
    def send(self, events: Sequence[Mapping[str, Any]]) -> Call[r.EventAnswer]:
        """
        Send CloudEvents, at most 10,000 at once. Each counts once for ever by its source and id, so that sending the
        same again is safe; `ciyuan.Meter` does this, batching and spooling.
        """
        return Call("POST", "/v1/events", r.EventAnswer, json=[*events], repeatable=True)

    @paged
    def rejected(self, *, code: str | None = None, resolved: bool = False) -> Call[Page[r.RejectedEvent]]:
        """Events that were refused and kept, with the reasons."""
        return read("/v1/events/rejected", page_of(r.RejectedEvent), code=code, resolved="true" if resolved else None)

    @endpoint
    def replay(
        self, *, ids: Sequence[str] | None = None, code: str | None = None, idempotency_key: str | None = None
    ) -> Call[r.Anything]:
        """Try rejected events again after their cause is mended."""
        body = given(ids=list(ids) if ids is not None else None, code=code)
        return write("POST", "/v1/events/rejected/replay", r.Anything, body, idempotency_key=idempotency_key)


class Manifests(Resource[Mode]):
    """What meters say they recorded by the hour, and what of it has not arrived."""

    @endpoint
    def send(self, manifest: Manifest, *, signer: Signer | None = None) -> Call[r.ManifestRecord]:
        """
        Say, with the meter's key, what a log recorded for an hour that is over; the answer's `gaps` name what is
        missing.

        :param signer: the meter's private key, where it was opened with a public one.
        """
        return manifest_call(manifest, signer)

    @paged
    def list(self, *, meter: int | None = None, state: str | None = None) -> Call[Page[r.ManifestRecord]]:
        return read("/v1/manifests", page_of(r.ManifestRecord), meter=meter, state=state)

    @paged
    def gaps(self, *, meter: int | None = None, closed: bool = False) -> Call[Page[r.UsageGap]]:
        """What was recorded and is missing; with `closed` also what has arrived since."""
        return read("/v1/manifests/gaps", page_of(r.UsageGap), meter=meter, closed="true" if closed else None)


class Discrepancies(Resource[Mode]):
    """Where the meters of a contract are too far apart."""

    @paged
    def list(self, *, state: str | None = None, contract: int | None = None) -> Call[Page[r.Discrepancy]]:
        return read("/v1/discrepancies", page_of(r.Discrepancy), state=state, contract=contract)

    @endpoint
    def get(self, discrepancy: int) -> Call[r.Discrepancy]:
        """One discrepancy with everything that happened about it."""
        return read(f"/v1/discrepancies/{discrepancy}", r.Discrepancy)

    @endpoint
    def comment(
        self, discrepancy: int, text: str = "", *, attachment: tuple[str, str, bytes] | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.DiscrepancyEntry]:  # fmt: skip
        """
        Say something, or attach a file of up to 1 MiB.

        :param attachment: name, media type and content.
        """
        body: dict[str, Any] = {"text": text}
        if attachment is not None:
            name, media_type, content = attachment
            body["attachment"] = {
                "name": name, "media_type": media_type, "content_base64": b64encode(content).decode("ascii")
            }  # fmt: skip
        path = f"/v1/discrepancies/{discrepancy}/entries"
        return write("POST", path, r.DiscrepancyEntry, body, idempotency_key=idempotency_key)

    @endpoint
    def decide(
        self, discrepancy: int, *, accepted: int, reason: str, idempotency_key: str | None = None
    ) -> Call[r.Discrepancy]:
        """As the operator: bill so many tokens of the provider's count."""
        body = {"accepted_quantity": accepted, "reason": reason}
        path = f"/v1/discrepancies/{discrepancy}/decision"
        return write("POST", path, r.Discrepancy, body, idempotency_key=idempotency_key)

    @endpoint
    def compare(
        self, contract: int, *, start: datetime | str | None = None, end: datetime | str | None = None
    ) -> Call[Comparisons]:
        """What each meter counted of a contract, by hour and class."""
        return read(
            "/v1/reconciliation", lambda body: [r.Comparison(row) for row in body["items"]], contract=contract,
            **{"from": time_text("start", start), "to": time_text("end", end)},
        )  # fmt: skip


class UsageQueries(Resource[Mode]):
    @endpoint
    def query(
        self,
        /,
        *,
        group_by: Sequence[str] = (),
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        **filters: Any,
    ) -> Call[UsageRows]:
        """
        Usage sums over [start, end), from rollups; a row per group. The default is the last day by class.

        :param group_by: of class, contract, deployment, meter, buyer, provider, grade, model, accelerator,
            service_class, key, hour, day, month, or `tag:NAME`.
        :param filters: the same names with the value to keep, such as `contract=42`; `tag="team:search"`;
            `reported_by="buyer"` for the gateways' reports.
        """
        params = {"from": time_text("start", start), "to": time_text("end", end), **filters}
        return read("/v1/usage", _rows, group_by=",".join(group_by) or None, **params)


class Exports(Resource[Mode]):
    @endpoint
    def usage_csv(
        self, /, *, start: datetime | str | None = None, end: datetime | str | None = None, **filters: Any
    ) -> Call[bytes]:
        """The rows of `usage.query` as CSV; `group_by` and filters as there, the former with commas."""
        return _usage_file("csv", start, end, filters)

    @endpoint
    def usage_parquet(
        self, /, *, start: datetime | str | None = None, end: datetime | str | None = None, **filters: Any
    ) -> Call[bytes]:
        """The same rows as Parquet, typed."""
        return _usage_file("parquet", start, end, filters)

    @endpoint
    def focus(
        self,
        *,
        first: date | str | None = None,
        last: date | str | None = None,
        organization: int | None = None,
        format: Literal["csv", "parquet"] = "csv",
    ) -> Call[bytes]:
        """Cost and usage by FOCUS 1.2, of the documents issued between two days (Shanghai)."""
        params = given(first=str(first) if first else None, last=str(last) if last else None, organization=organization)
        return Call("GET", f"/v1/exports/focus.{format}", bytes, params=params, binary=True)


def _usage_file(
    kind: str, start: datetime | str | None, end: datetime | str | None, filters: dict[str, Any]
) -> Call[bytes]:
    params = {"from": time_text("start", start), "to": time_text("end", end), **filters, "format": kind}
    return Call("GET", "/v1/usage", bytes, params=given(**params), binary=True)


def _rows(body: Any) -> UsageRows:
    return [r.UsageRow(row) for row in body["items"]]
