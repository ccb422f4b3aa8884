"""
Settings under test: the product's own, on servers that this test run starts for itself.

Importing this starts them (once per run; xdist's workers find their addresses in the environment), because settings are
read before any fixture runs. Each worker has a database and three of Valkey's logical databases of its own.
"""

import os

from tests import servers

servers.ensure()

from config.settings import *  # noqa: E402, F403
from config.settings import DATABASES, REDIS_URL, broker_url, redis_url  # noqa: E402

_worker = os.environ.get("PYTEST_XDIST_WORKER", "master")
_first = 4 + 3 * (0 if _worker == "master" else int(_worker.removeprefix("gw")) + 1)

DATABASES["default"]["NAME"] = f"test_{_worker}"
CACHES = {
    "default": {"BACKEND": "core.cache.KeptRedisCache", "LOCATION": redis_url(REDIS_URL, _first)},
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [{"address": redis_url(REDIS_URL, _first + 1)}]},
    },
}
CELERY_BROKER_URL = broker_url(REDIS_URL, _first + 2)
WHITENOISE_AUTOREFRESH = True  # no scan of all static files per client
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
LANGUAGE_CODE = "en"
