"""
The usage tables: laid out to be distributed by meter, with no triggers, and referred to by nothing.

Each holds the meter's id in its primary key; none needs rows of two meters in one transaction. Rows of `usage_event`
and `usage_void` are facts and are never changed; recomputing the rollup from them finds any change.
"""

from typing import ClassVar

from django.db import models


class UsageEvent(models.Model):
    """
    One request as its meter reported it, normalised. Partitioned by the day in the first 48 bits of `event_key`.

    Token columns are the disjoint classes input.text, input.text.cache_read, output.text and output.reasoning; other
    classes stand in `details`. `contract_id` is 0 where the usage belongs to no contract, and minus a contract's
    id where the request was the exchange's own, sent as the contract's buyer sends them.
    """

    pk = models.CompositePrimaryKey("event_key", "meter_id")
    event_key = models.UUIDField()
    meter_id = models.BigIntegerField()
    contract_id = models.BigIntegerField()
    deployment_id = models.BigIntegerField()
    received_at = models.DateTimeField()
    input_micro_st = models.BigIntegerField()
    cached_micro_st = models.BigIntegerField()
    output_micro_st = models.BigIntegerField()
    requests = models.IntegerField()
    input_tokens = models.IntegerField()
    cached_tokens = models.IntegerField()
    output_tokens = models.IntegerField()
    reasoning_tokens = models.IntegerField()
    length_band = models.SmallIntegerField()
    source = models.TextField()
    id = models.TextField()
    subject = models.TextField()
    details = models.JSONField(null=True)

    class Meta:
        db_table = "usage_event"

    def __str__(self) -> str:
        return f"{self.source} {self.id}"


class UsageRollup(models.Model):
    """Usage of an hour by class, added up as events arrive. `token_class` is a code of `domain.classes`."""

    pk = models.CompositePrimaryKey("meter_id", "contract_id", "deployment_id", "hour", "length_band", "token_class")
    meter_id = models.BigIntegerField()
    contract_id = models.BigIntegerField()
    deployment_id = models.BigIntegerField()
    hour = models.DateTimeField()
    length_band = models.SmallIntegerField()
    token_class = models.SmallIntegerField()
    quantity = models.BigIntegerField()
    work_micro_st = models.BigIntegerField()
    events = models.BigIntegerField()

    class Meta:
        db_table = "usage_rollup"
        indexes: ClassVar = [models.Index(fields=["contract_id", "hour"], name="usage_rollup_contract_hour")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H} meter {self.meter_id} class {self.token_class}"


class UsageTagRollup(models.Model):
    """
    Usage of an hour by tag: one row per tag, value and class, of events that carry tags; none for the others.

    An event with two tags stands in both, so only one tag at a time may be added up. Tags are for the few values that
    somebody compares (a team, an application, the caller's `key`), not for ids of requests.
    """

    pk = models.CompositePrimaryKey("meter_id", "contract_id", "deployment_id", "hour", "tag", "value", "token_class")
    meter_id = models.BigIntegerField()
    contract_id = models.BigIntegerField()
    deployment_id = models.BigIntegerField()
    hour = models.DateTimeField()
    tag = models.TextField()
    value = models.TextField()
    token_class = models.SmallIntegerField()
    quantity = models.BigIntegerField()
    work_micro_st = models.BigIntegerField()
    events = models.BigIntegerField()

    class Meta:
        db_table = "usage_tag_rollup"
        indexes: ClassVar = [models.Index(fields=["contract_id", "hour"], name="usage_tag_contract_hour")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H} {self.tag}={self.value}"


class UntimedIdentity(models.Model):
    """The time given to an event that came without one, so that it is the same event when it is sent again."""

    pk = models.CompositePrimaryKey("meter_id", "digest")
    meter_id = models.BigIntegerField()
    digest = models.BinaryField(max_length=10)
    time_ms = models.BigIntegerField()

    class Meta:
        db_table = "untimed_identity"

    def __str__(self) -> str:
        return f"meter {self.meter_id} {bytes(self.digest).hex()}"


class UsageVoid(models.Model):
    """An event that does not count: a second report of the same id at another time, or one that its meter took back."""

    class Reason(models.TextChoices):
        DUPLICATE = "duplicate"
        VOIDED = "voided"
        AMENDED = "amended"

    pk = models.CompositePrimaryKey("event_key", "meter_id")
    event_key = models.UUIDField()
    meter_id = models.BigIntegerField()
    reason = models.CharField(max_length=10, choices=Reason)
    by_key = models.UUIDField(help_text="The event that stands instead, or the one that took this back.")
    voided_at = models.DateTimeField()

    class Meta:
        db_table = "usage_void"

    def __str__(self) -> str:
        return f"{self.event_key} {self.reason}"


class RejectedEvent(models.Model):
    """An event that was not stored, as it came, with the reason; it can be replayed once the cause is mended."""

    pk = models.CompositePrimaryKey("meter_id", "digest")
    meter_id = models.BigIntegerField()
    digest = models.BinaryField(max_length=16, help_text="BLAKE2b-128 of the body: kept once.")
    kept_id = models.UUIDField(db_index=True, help_text="By which it is listed and replayed; in the order of arrival.")
    received_at = models.DateTimeField()
    code = models.CharField(max_length=40)
    field = models.TextField(blank=True)
    detail = models.TextField()
    source = models.TextField(blank=True)
    id = models.TextField(blank=True)
    body = models.BinaryField()
    attempts = models.IntegerField(default=1)
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "rejected_event"
        indexes: ClassVar = [models.Index(fields=["meter_id", "received_at"], name="rejected_event_meter_time")]

    def __str__(self) -> str:
        return f"{self.code}: {self.id}"
