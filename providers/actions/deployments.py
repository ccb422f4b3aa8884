"""Deployments: registered, certified, retired."""

import ipaddress
from datetime import datetime
from urllib.parse import urlsplit

from core.errors import BadRequest, Conflict, Forbidden, NotFound
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from identity.models import Organization
from providers import queries
from providers.actions.grades import REGION
from providers.domain.roofline import DoesNotFit, NoArithmetic
from providers.models import Capacity, Deployment, Grade

MAX_ACCELERATORS = 100_000


class NotAProvider(Forbidden):
    """The organization does not provide."""

    code = "not-a-provider"


class BadDeployment(BadRequest):
    """The deployment's particulars cannot be so."""

    code = "bad-deployment"


class BadEndpoint(BadRequest):
    """The endpoint is no address that buyers could call."""

    code = "bad-endpoint"


class DeploymentImplausible(BadRequest):
    """By the accelerator's published numbers the deployment could not do what is said of it."""

    code = "deployment-implausible"


class DeploymentExists(Conflict):
    """The provider has a deployment of that name."""

    code = "deployment-exists"


class GradeRetired(Conflict):
    """The grade takes no new deployments or capacity."""

    code = "grade-retired"


class DeploymentInUse(Conflict):
    """The deployment still has capacity ahead."""

    code = "deployment-in-use"


def register_deployment(
    *,
    provider_id: int,
    name: str,
    grade: str | int,
    accelerator: str | int,
    accelerator_count: int,
    engine: str,
    precision: str,
    region: str,
    endpoint: str,
    rated_tokens_per_minute: int,
    now: datetime,
    actor: Actor | None = None,
) -> Deployment:
    """
    Register a running model. What it runs on never changes in place: a change is another deployment.

    :param grade: slug or id of the grade it serves.
    :param accelerator: slug or id in the catalogue.
    :param rated_tokens_per_minute: standard tokens a minute that the provider promises; at most the roofline.
    :raises NotAProvider: the organization only buys.
    :raises GradeUnknown, AcceleratorUnknown: with similar names.
    :raises BadDeployment: a name, count, precision or region that the grade does not admit.
    :raises BadEndpoint: an address that buyers could not call.
    :raises DeploymentImplausible: weights that do not fit, or a rate above the roofline.
    :raises DeploymentExists: the name is taken.
    """
    assert_in_transaction()
    if not Organization.objects.get(pk=provider_id).provides:
        raise NotAProvider("Only providers register deployments; this organization is registered as a buyer.")
    serves = queries.grade(grade)
    if serves.status != Grade.Status.ACTIVE:
        raise GradeRetired(f"The grade {serves.slug} is retired and takes no new deployments.", field="grade")
    deployment = Deployment(
        provider_id=provider_id,
        name=name.strip(),
        grade=serves,
        accelerator=queries.accelerator(accelerator),
        accelerator_count=accelerator_count,
        engine=engine.strip(),
        precision=precision,
        region=region,
        endpoint=read_endpoint(endpoint),
        rated_tokens_per_minute=rated_tokens_per_minute,
        created_at=now,
    )
    _check_particulars(deployment)
    _check_plausible(deployment)
    if Deployment.objects.filter(provider_id=provider_id, name=deployment.name).exists():
        raise DeploymentExists(f"There is a deployment named {deployment.name} already.", field="name")
    deployment.save(force_insert=True)
    audit.record(
        actor=actor,
        verb="deployment.register",
        subject=f"deployment:{deployment.pk}",
        now=now,
        after={"name": deployment.name, "grade": serves.slug, "endpoint": deployment.endpoint},
    )
    return deployment


def certify_deployment(
    *, deployment_id: int, tokens_per_minute: int, until: datetime, now: datetime, actor: Actor | None = None
) -> Deployment:
    """
    Record what a certificate measured: until it ends, 90% of it is the most that may be published.

    :raises BadDeployment: no positive rate, or an end that has passed.
    """
    assert_in_transaction()
    if tokens_per_minute <= 0:
        raise BadDeployment("A certificate measures more than zero tokens a minute.", field="tokens_per_minute")
    if until <= now:
        raise BadDeployment("A certificate ends in the future.", field="until")
    deployment = Deployment.objects.select_for_update(no_key=True).get(pk=deployment_id)
    deployment.certified_tokens_per_minute = tokens_per_minute
    deployment.certified_until = until
    deployment.save(update_fields=["certified_tokens_per_minute", "certified_until"])
    audit.record(
        actor=actor,
        verb="deployment.certify",
        subject=f"deployment:{deployment_id}",
        now=now,
        after={"tokens_per_minute": tokens_per_minute, "until": until.isoformat()},
    )
    return deployment


def retire_deployment(*, deployment_id: int, provider_id: int, now: datetime, actor: Actor | None = None) -> Deployment:
    """
    Take a deployment out of service for good. Retired already, it stays so.

    :raises NotFound: it is not that provider's.
    :raises DeploymentInUse: it has capacity in a window that has not ended; withdraw that first.
    """
    assert_in_transaction()
    deployment = lock_deployment(deployment_id, provider_id=provider_id)
    if deployment.status == Deployment.Status.RETIRED:
        return deployment
    ahead = Capacity.objects.filter(deployment=deployment, withdrawn_at__isnull=True, window_end__gt=now).first()
    if ahead is not None:
        raise DeploymentInUse(
            f"It has capacity until {ahead.window_end:%Y-%m-%d %H:%M} UTC. Withdraw that, or wait for its end.",
            capacity=ahead.pk,
        )
    deployment.status = Deployment.Status.RETIRED
    deployment.save(update_fields=["status"])
    audit.record(actor=actor, verb="deployment.retire", subject=f"deployment:{deployment_id}", now=now)
    return deployment


def lock_deployment(deployment_id: int, *, provider_id: int | None = None) -> Deployment:
    """
    Lock a deployment until commit, so that its capacity and prices change one after another.

    :raises NotFound: there is none, or it is another provider's.
    """
    rows = Deployment.objects.select_for_update(no_key=True, of=("self",)).select_related(
        "grade__model_card", "accelerator"
    )
    found = rows.filter(pk=deployment_id).first()
    if found is None or (provider_id is not None and found.provider_id != provider_id):
        raise NotFound("There is no such deployment.", field="deployment")
    return found


def read_endpoint(text: str) -> str:
    """
    Return the base address of an OpenAI-compatible API, without a slash at its end.

    HTTPS, or plain HTTP within a private network. No user, query or fragment: keys do not belong into addresses.

    :raises BadEndpoint: for anything else.
    """
    text = text.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadEndpoint("endpoint is no address; write https://host/path.", field="endpoint") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isascii() or " " in text:
        raise BadEndpoint("endpoint is an address such as https://host/v1, in ASCII.", field="endpoint")
    if port == 0:
        raise BadEndpoint("endpoint has no usable port.", field="endpoint")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise BadEndpoint("endpoint carries no user, password, query or fragment.", field="endpoint")
    if parts.scheme == "http" and not _is_private(parts.hostname):
        raise BadEndpoint("endpoint is https://; plain http only within a private network.", field="endpoint")
    if len(text) > 500:
        raise BadEndpoint("endpoint has at most 500 characters.", field="endpoint")
    return text


def _is_private(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".internal", ".local")) or "." not in host:
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def _check_particulars(deployment: Deployment) -> None:
    grade = deployment.grade
    for field in ("name", "engine"):
        if not getattr(deployment, field):
            raise BadDeployment(f"{field} is not empty.", field=field)
    if not 1 <= deployment.accelerator_count <= MAX_ACCELERATORS:
        raise BadDeployment(f"accelerator_count is from 1 to {MAX_ACCELERATORS:,}.", field="accelerator_count")
    if deployment.rated_tokens_per_minute < 1:
        raise BadDeployment("rated_tokens_per_minute is above zero.", field="rated_tokens_per_minute")
    if deployment.precision not in grade.precisions:
        raise BadDeployment(
            f"The grade {grade.slug} is served in {', '.join(grade.precisions)}, not in {deployment.precision}.",
            field="precision",
        )
    if not REGION.fullmatch(deployment.region) or not grade.serves_region(deployment.region):
        raise BadDeployment(
            f"The grade {grade.slug} is served from {grade.region} or a part of it, such as {grade.region}-north.",
            field="region",
        )


def _check_plausible(deployment: Deployment) -> None:
    try:
        bound = deployment.roofline()
    except NoArithmetic:
        known = ", ".join(sorted(deployment.accelerator.gflops))
        raise DeploymentImplausible(
            f"{deployment.accelerator} computes in {known}: it cannot serve {deployment.precision}.", field="precision"
        ) from None
    except DoesNotFit as error:
        raise DeploymentImplausible(
            f"{deployment.grade.model_card} in {deployment.precision} needs the memory of at least "
            f"{error.accelerators_needed:,} × {deployment.accelerator}; {deployment.accelerator_count:,} are named.",
            field="accelerator_count",
            accelerators_needed=error.accelerators_needed,
        ) from None
    if deployment.rated_tokens_per_minute > bound.tokens_per_minute:
        raise DeploymentImplausible(
            f"{deployment.accelerator_count:,} × {deployment.accelerator} can do at most "
            f"{bound.tokens_per_minute:,} standard tokens a minute of {deployment.grade.model_card}, by their "
            f"published numbers; {deployment.rated_tokens_per_minute:,} are claimed.",
            field="rated_tokens_per_minute",
            roofline_tokens_per_minute=bound.tokens_per_minute,
        )
