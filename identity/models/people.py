"""Organizations, the people and keys that act for them, and what operators changed."""

from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Organization(models.Model):
    """A legal person that trades, delivers or operates. Everything of value belongs to one."""

    class Kind(models.TextChoices):
        BUYER = "buyer", _("Buyer")
        PROVIDER = "provider", _("Provider")
        BOTH = "both", _("Buyer and provider")
        OPERATOR = "operator", _("Operator")

    class Status(models.TextChoices):
        ACTIVE = "active", _("Active")
        SUSPENDED = "suspended", _("Suspended")
        CLOSED = "closed", _("Closed")

    kind = models.CharField(max_length=10, choices=Kind)
    name = models.CharField(max_length=120, help_text="Printable ASCII: what files for abroad carry.")
    name_zh = models.CharField(max_length=120, blank=True)
    control_group = models.CharField(
        max_length=60, blank=True, help_text="Organizations under one control never trade with each other."
    )
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    credit_limit_micro = models.BigIntegerField(default=0)
    vat_rate_thousandths = models.PositiveSmallIntegerField(default=60)
    allows_overage_micro = models.BigIntegerField(
        default=0, help_text="What usage beyond contracts may cost at list price in a calendar month; 0 forbids it."
    )
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="organization_name_not_empty", condition=~models.Q(name="")),
            models.CheckConstraint(
                name="organization_credit_not_negative", condition=models.Q(credit_limit_micro__gte=0)
            ),
            models.CheckConstraint(
                name="organization_overage_not_negative", condition=models.Q(allows_overage_micro__gte=0)
            ),
            models.CheckConstraint(
                name="organization_vat_is_a_share", condition=models.Q(vat_rate_thousandths__lt=1000)
            ),
        ]

    def __str__(self) -> str:
        return self.name_zh or self.name

    @property
    def buys(self) -> bool:
        """Whether it may place buy orders as a customer."""
        return self.kind in (self.Kind.BUYER, self.Kind.BOTH)

    @property
    def provides(self) -> bool:
        """Whether it may register deployments and publish capacity."""
        return self.kind in (self.Kind.PROVIDER, self.Kind.BOTH)

    @property
    def operates(self) -> bool:
        """Whether it runs the exchange."""
        return self.kind == self.Kind.OPERATOR


class UserManager(BaseUserManager["User"]):
    """Users are known by their e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: object) -> "User":
        """Create a user; without a password sign-in needs another way."""
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> "User":
        """Create a user who may use the whole admin console."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person who signs in. What a person may do follows from memberships."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(default=timezone.now)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.name or self.email


class Membership(models.Model):
    """What a person may do for an organization."""

    class Role(models.TextChoices):
        OWNER = "owner", _("Owner")
        TRADER = "trader", _("Trader")
        BILLING = "billing", _("Billing")
        VIEWER = "viewer", _("Viewer")
        AUDITOR = "auditor", _("Auditor")

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["organization", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user}: {self.role} of {self.organization}"


class ApiKey(models.Model):
    """A secret by which a program acts for an organization. Only its SHA-256 is stored."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12, help_text="The first characters, to recognise a key by.")
    digest = models.BinaryField(max_length=32, unique=True)
    scopes = ArrayField(models.CharField(max_length=10))
    meter_id = models.BigIntegerField(null=True, help_text="The one meter that this key sends events for.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    replaces = models.ForeignKey("self", models.SET_NULL, null=True, related_name="replaced_by")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="api_key_meter_scope_is_alone",
                condition=~models.Q(scopes__contains=["meter"]) | models.Q(meter_id__isnull=False, scopes=["meter"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… {self.name}"


class AuditEntry(models.Model):
    """Who changed what, when, from what to what. Insert-only."""

    at = models.DateTimeField()
    organization = models.ForeignKey(Organization, models.PROTECT, null=True, related_name="+")
    user = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    api_key = models.ForeignKey(ApiKey, models.PROTECT, null=True, related_name="+")
    verb = models.CharField(max_length=60)
    subject = models.CharField(max_length=120)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    request_id = models.CharField(max_length=64, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["subject", "at"], name="audit_subject"),
            models.Index(fields=["verb", "id"], name="audit_verb"),
        ]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.verb} {self.subject}"
