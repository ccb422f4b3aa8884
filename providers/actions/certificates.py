"""Certificates: recorded from a run of the reference workload, assessed here and not by whoever ran it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ciyuan.reference_workload import VERSION, reference_workload
from ciyuan.standard_token import work_function

from core.errors import BadRequest, Conflict
from core.transactions import assert_in_transaction
from identity.access import Actor
from providers.actions.deployments import DeploymentImplausible, certify_deployment, lock_deployment
from providers.domain.certificate import NotTheWorkload, assess, runs_of
from providers.models import Certificate, Deployment

LASTS = timedelta(days=30)
#: A run is reported at once, and clocks are a minute apart at most.
REPORTED_WITHIN, CLOCKS_APART = timedelta(hours=24), timedelta(minutes=1)


class CertificateIncomplete(BadRequest):
    """The report is not of a whole run of the reference workload."""

    code = "certificate-incomplete"


class CertificateOutdated(BadRequest):
    """The run is too long ago, or in the future, or of another version of the workload."""

    code = "certificate-outdated"


class CertificateMismatch(Conflict):
    """What was measured is not what the deployment runs."""

    code = "certificate-mismatch"


def record_certificate(
    *,
    deployment_id: int,
    provider_id: int | None,
    measured_by_id: int,
    workload: str,
    model: str,
    engine: str,
    precision: str,
    accelerator: str,
    accelerator_count: int,
    measured_at: datetime,
    runs: Sequence[Mapping[str, Any]],
    now: datetime,
    actor: Actor | None = None,
) -> Certificate:
    """
    Certify a deployment by what its endpoint did: 30 days from the measurement, 90% of the rate may be published.

    :param provider_id: whose deployment it must be; None for the operator.
    :param model: and what follows: what was measured, which must be what the deployment runs.
    :param runs: each repeat's `part`, `duration_ms`, `failed`, `served` (per request input, cached and output tokens,
        first token and total in milliseconds).
    :raises NotFound: there is no such deployment of that provider.
    :raises CertificateMismatch: another model, engine, precision or accelerator, or a retired deployment.
    :raises CertificateOutdated: measured in the future, over a day ago, before the certificate in force, or otherwise.
    :raises CertificateIncomplete: not the whole workload, or more failures than 1%.
    :raises DeploymentImplausible: faster than the published numbers of its accelerators allow.
    """
    assert_in_transaction()
    deployment = lock_deployment(deployment_id, provider_id=provider_id)
    grade = deployment.grade
    if deployment.status == Deployment.Status.RETIRED:
        raise CertificateMismatch(f"{deployment.name} is retired.", field="deployment")
    for field, said, runs_on in (
        ("model", model, grade.model_card.slug), ("engine", engine, deployment.engine),
        ("precision", precision, deployment.precision), ("accelerator", accelerator, deployment.accelerator.slug),
        ("accelerator_count", accelerator_count, deployment.accelerator_count),
    ):  # fmt: skip
        if said != runs_on:
            raise CertificateMismatch(
                f"{deployment.name} is registered with {runs_on} as its {field}, and {said} was measured; what runs on"
                " something else is another deployment.",
                field=field,
            )
    _check_when(deployment, workload, measured_at, now)
    wanted = reference_workload(
        max_context_tokens=grade.max_context_tokens, max_output_tokens=grade.max_output_tokens
    )  # fmt: skip
    work = work_function(grade.model_card.standard_card(), grade.cached_share_thousandths)
    try:
        found = assess(runs_of(runs), wanted=wanted, work=work, accelerators=accelerator_count)
    except NotTheWorkload as error:
        raise CertificateIncomplete(f"{str(error)[:1].upper()}{str(error)[1:]}.", field="runs") from None
    bound = deployment.roofline().tokens_per_minute
    if found.tokens_per_minute > bound:
        raise DeploymentImplausible(
            f"{found.tokens_per_minute:,} standard tokens a minute were reported; by the published numbers of its"
            f" accelerators {deployment.name} can do at most {bound:,}.",
            field="runs",
            roofline_tokens_per_minute=bound,
        )
    until = measured_at + LASTS
    certificate = Certificate.objects.create(
        deployment=deployment, measured_by_id=measured_by_id, workload=workload, model=model, engine=engine,
        precision=precision, accelerator=accelerator, accelerator_count=accelerator_count, measured_at=measured_at,
        recorded_at=max(now, measured_at), valid_until=until,
        **{name: getattr(found, name) for name in found.__slots__ if name != "parts"}, parts=dict(found.parts),
    )  # fmt: skip
    certify_deployment(
        deployment_id=deployment_id, tokens_per_minute=found.tokens_per_minute, until=until, now=now, actor=actor
    )
    return certificate


def _check_when(deployment: Deployment, workload: str, measured_at: datetime, now: datetime) -> None:
    if workload != VERSION:
        raise CertificateOutdated(f"The reference workload is {VERSION}; this was {workload}.", field="workload")
    if not now - REPORTED_WITHIN <= measured_at <= now + CLOCKS_APART:
        raise CertificateOutdated("A run is reported within a day of its measurement.", field="measured_at")
    last = Certificate.objects.filter(deployment=deployment).first()
    if last is not None and measured_at <= last.measured_at:
        raise CertificateOutdated(
            f"{deployment.name} has a certificate of {last.measured_at:%Y-%m-%d %H:%M} UTC, which is not older.",
            field="measured_at",
        )
