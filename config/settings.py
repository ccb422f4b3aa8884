"""
Django's settings, all from the environment (docs/OPERATIONS.md lists the variables).

CIYUAN_ENV is `development` (the default: demo and laptop), `test` or `production`. In production nothing secret has a
default, and the start fails when something is missing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.utils.translation import gettext_lazy as _
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from config import env, services

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = env.folder("CIYUAN_VAR", BASE_DIR / "var")
ENVIRONMENT = env.choice("CIYUAN_ENV", "development", ("development", "test", "production"))
PRODUCTION = ENVIRONMENT == "production"
ROLE = env.choice("CIYUAN_ROLE", "command", ("command", "web", "worker", "beat", "demo"))
DEBUG = env.flag("CIYUAN_DEBUG", False)
if DEBUG and PRODUCTION:
    raise ImproperlyConfigured("CIYUAN_DEBUG=1 shows secrets in error pages; it is refused in production.")


def _secret_key() -> str:
    """SECRET_KEY; outside production one is made on first need and kept in `var/`: sessions survive a restart."""
    if PRODUCTION or "SECRET_KEY" in os.environ:
        key = env.text("SECRET_KEY")
        if len(key) < 50:
            raise ImproperlyConfigured("SECRET_KEY must have at least 50 characters.")
        return key
    path = VAR_DIR / "secret_key"
    try:
        return path.read_text()
    except FileNotFoundError:
        VAR_DIR.mkdir(parents=True, exist_ok=True)
        scratch = VAR_DIR / f"secret_key.{secrets.token_hex(4)}"
        scratch.touch(mode=0o600)
        scratch.write_text(secrets.token_urlsafe(64))
        with contextlib.suppress(FileExistsError):  # the first of several starting processes wins
            path.hardlink_to(scratch)
        scratch.unlink()
        return path.read_text()


SECRET_KEY = _secret_key()
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "" if PRODUCTION else "*")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")
if PRODUCTION and not ALLOWED_HOSTS:
    raise ImproperlyConfigured("Set ALLOWED_HOSTS to the host names this server answers for.")

# --- services -------------------------------------------------------------------------------------------------------

_postgres, _valkey = services.embedded(VAR_DIR)
DATABASE_URL = env.text("DATABASE_URL", None if PRODUCTION else _postgres.url())
REDIS_URL = env.text("REDIS_URL", None if PRODUCTION else _valkey.url())

WEB_THREADS = env.integer("CIYUAN_WEB_THREADS", 6, least=1)  # of one web process: requests that are served at once


def _database(url: str) -> dict[str, Any]:
    """Django's settings for a libpq URL: its parameters beyond the usual five become options."""
    try:
        given = conninfo_to_dict(url)
    except ProgrammingError:  # whose text repeats the address, password included
        raise ImproperlyConfigured("DATABASE_URL is not a Postgres URL: postgresql://user:password@host/name") from None
    known = {key: given.pop(key, "") for key in ("dbname", "user", "password", "host", "port")}
    options: dict[str, Any] = dict(given)
    options["prepare_threshold"] = 5  # else `core.prepared` prepares nothing; Django's own cursors never do
    if ROLE == "web":
        # Threads of Django, of the usage door and of websockets share connections; workers keep their one.
        size = env.integer("CIYUAN_WEB_POOL", 16, least=2)
        options["pool"] = {"min_size": 2, "max_size": size, "timeout": 10, "max_lifetime": 1800}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": known["dbname"],
        "USER": known["user"],
        "PASSWORD": known["password"],
        "HOST": known["host"],
        "PORT": known["port"],
        "CONN_MAX_AGE": 0 if ROLE == "web" else 600,
        "CONN_HEALTH_CHECKS": True,
        "ATOMIC_REQUESTS": False,
        "OPTIONS": options,
    }


def redis_url(url: str, database: int) -> str:
    """`url` with the number of a logical database: a unix socket takes it as a parameter, a host as its path."""
    if url.startswith("unix://"):
        return f"{url}?db={database}"
    return f"{url.rstrip('/')}/{database}"


def broker_url(url: str, database: int) -> str:
    """`url` as Celery spells it."""
    if url.startswith("unix://"):
        return f"redis+socket://{url.removeprefix('unix://')}?virtual_host={database}"
    return redis_url(url, database)


DATABASES = {"default": _database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {
    "default": {"BACKEND": "core.cache.KeptRedisCache", "LOCATION": redis_url(REDIS_URL, 2)},
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [{"address": redis_url(REDIS_URL, 1)}]},
    },
}
CELERY_BROKER_URL = broker_url(REDIS_URL, 0)
ARCHIVE_DIR = env.folder("CIYUAN_ARCHIVE", VAR_DIR / "archive")
ARCHIVE_AFTER_DAYS = env.integer("CIYUAN_ARCHIVE_AFTER_DAYS", 90, least=9)  # days of usage events in the database
REQUESTS_PER_MINUTE = env.integer("CIYUAN_REQUESTS_PER_MINUTE", 600_000, least=6)  # of one organization, all keys
MATCHING_WORKERS = env.integer("CIYUAN_MATCHING_WORKERS", 2, least=1)  # queues matching.0 … matching.N-1
HEARTBEAT_FILE = env.text("CIYUAN_HEARTBEAT_FILE", "")  # touched by beat and by each worker that takes a heartbeat
CELERY_VISIBILITY_SECONDS = env.integer("CIYUAN_VISIBILITY_SECONDS", 300, least=10)

# Where webhooks may go besides public addresses. Outside production a receiver on the same machine is what one tries.
WEBHOOK_NETWORKS = env.networks("CIYUAN_WEBHOOK_NETWORKS", "" if PRODUCTION else "127.0.0.0/8")

# Money out: the least payout, above what two persons approve it, and whether statements wait for a tax invoice.
PAYOUT_MINIMUM_MICRO = env.integer("CIYUAN_PAYOUT_MINIMUM_YUAN", 100) * 1_000_000
PAYOUT_APPROVAL_ABOVE_MICRO = env.integer("CIYUAN_PAYOUT_APPROVAL_ABOVE_YUAN", 50_000) * 1_000_000
PAYOUT_NEEDS_TAX_INVOICE = env.flag("CIYUAN_PAYOUT_NEEDS_TAX_INVOICE", True)
# Dunning: on which days after the due day (negative: before) one is reminded, and when new orders are refused.
DUNNING_STEPS_DAYS = [int(day) for day in env.words("CIYUAN_DUNNING_STEPS_DAYS", "-3,0,1,7,14,30")]
DUNNING_HOLD_AFTER_DAYS = env.integer("CIYUAN_DUNNING_HOLD_AFTER_DAYS", 14)
DUNNING_HOLD_ABOVE_MICRO = env.integer("CIYUAN_DUNNING_HOLD_ABOVE_YUAN", 0) * 1_000_000
# The tax classification of what is sold, as it stands on tax invoices (数电发票).
TAX_CODE = env.text("CIYUAN_TAX_CODE", "3040203000000000000")
# Whether an organization that a person opened waits for the operator before it may trade.
JOIN_NEEDS_REVIEW = env.flag("CIYUAN_JOIN_NEEDS_REVIEW", PRODUCTION)
# Where buyers pay to by bank transfer, as they are told.
BANK_ACCOUNT = {
    "holder": env.text("CIYUAN_BANK_HOLDER", ""),
    "number": env.text("CIYUAN_BANK_NUMBER", ""),
    "bank": env.text("CIYUAN_BANK_NAME", ""),
}

# Stripe: without a key the door is closed. Several webhook secrets, while one replaces another.
STRIPE_API_KEY = env.text("STRIPE_API_KEY", "")
STRIPE_WEBHOOK_SECRETS = env.words("STRIPE_WEBHOOK_SECRETS")
STRIPE_BASE_URL = env.text("CIYUAN_STRIPE_BASE_URL", "")  # another server that speaks like Stripe, for tests
BASE_URL = env.text("CIYUAN_BASE_URL", "http://localhost:8000")  # where people reach this exchange

CLOCK_FILE = env.text("CIYUAN_CLOCK_FILE", "") or None

# --- applications ---------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "django_htmx",
    "csp",
    "core",
    "identity",
    "providers",
    "billing",
    "exchange",
    "metering_ingest",
    "config",
]

MIDDLEWARE = [
    "core.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "core.middleware.AdminPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "core.middleware.LocalTimeMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "identity.pages.page_context",
            ],
        },
    },
]

AUTH_USER_MODEL = "identity.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_SIGNUP_REDIRECT_URL = "/organization/new"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = env.choice(
    "CIYUAN_EMAIL_VERIFICATION", "mandatory" if PRODUCTION else "none", ("mandatory", "optional", "none")
)
ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,5/5m/key"}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
EMAIL_BACKEND = env.text(
    "EMAIL_BACKEND",
    "django.core.mail.backends.smtp.EmailBackend" if PRODUCTION else "django.core.mail.backends.filebased.EmailBackend",
)
EMAIL_FILE_PATH = VAR_DIR / "mail"
EMAIL_HOST = env.text("EMAIL_HOST", "localhost")
EMAIL_PORT = env.integer("EMAIL_PORT", 25, least=1)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS = env.flag("EMAIL_USE_TLS", False)
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "ciyuan@localhost")

# --- languages and time ---------------------------------------------------------------------------------------------

LANGUAGE_CODE = "zh-hans"
LANGUAGES = [("zh-hans", _("Simplified Chinese")), ("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"  # what the API speaks; pages are shown in LOCAL_TIME_ZONE
LOCAL_TIME_ZONE = "Asia/Shanghai"

# --- static files ---------------------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = env.folder("CIYUAN_STATIC_ROOT", BASE_DIR / "staticfiles")
STATICFILES_DIRS: list[Any] = [
    BASE_DIR / "static",
    # the chart library, from where its package keeps it
    ("litecharts", services.package_folder("litecharts", "litecharts") / "js"),
]
WHITENOISE_USE_FINDERS = not PRODUCTION
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
MEDIA_ROOT = VAR_DIR / "media"

# --- security -------------------------------------------------------------------------------------------------------

HTTPS = env.flag("CIYUAN_HTTPS", PRODUCTION)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]  # asked from inside, without TLS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
if env.flag("CIYUAN_BEHIND_PROXY", PRODUCTION):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 5_000_000
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2_000
METRICS_TOKEN = env.text("CIYUAN_METRICS_TOKEN", None if PRODUCTION else "")  # empty: open

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    },
}

# --- API ------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "core.api.schema.ApiSchema",
    "EXCEPTION_HANDLER": "core.api.problem.exception_handler",
    "COERCE_DECIMAL_TO_STRING": True,
    "UNICODE_JSON": True,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Ciyuan API",
    "DESCRIPTION": "Spot exchange and billing for AI inference tokens, priced in ¥ per token.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": r"/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "OrganizationKindEnum": "identity.models.Organization.Kind",
        "MemberRoleEnum": "identity.models.Membership.Role",
        "DocumentKindEnum": "billing.models.Invoice.Kind",
        "TaxInvoiceKindEnum": "billing.models.TaxInvoiceKind",
        "TaxInvoiceStateEnum": "billing.models.TaxInvoice.State",
        "DisputeStateEnum": "billing.models.Dispute.State",
        "DocumentStateEnum": "billing.models.InvoiceState.State",
    },
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Ciyuan 词元",
    "SITE_HEADER": "Ciyuan 词元",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("ciyuan/icon.svg")},
    ],
    "STYLES": [lambda request: static("ciyuan/console.css")],
    "SCRIPTS": [lambda request: static("ciyuan/console.js")],
    "COLORS": {
        "primary": {  # the ink-blue of the pages
            "50": "#eff5fb", "100": "#e0ebf6", "200": "#c3d8ec", "300": "#a3c6e8", "400": "#8dbbe8", "500": "#4d86bd",
            "600": "#1f4e79", "700": "#1a4267", "800": "#163754", "900": "#122c44", "950": "#0c1d2e",
        },
    },
    "DASHBOARD_CALLBACK": "metering_ingest.at_a_glance.context",
    "SIDEBAR": {"show_search": True, "show_all_applications": True},
}

# --- logs -----------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.text("CIYUAN_LOG_LEVEL", "INFO").upper()
LOGGING_CONFIG = "core.logging.configure"
LOGGING: dict[str, Any] = {"level": LOG_LEVEL, "json": env.flag("CIYUAN_LOG_JSON", True)}

SILENCED_SYSTEM_CHECKS: list[str] = []
