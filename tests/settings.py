"""
Settings under test: the product's own, on servers that this test run starts for itself.

Importing this starts them (once per run; xdist's workers find their addresses in the environment), because settings are
read before any fixture runs.
"""

from tests import servers

servers.ensure()

from config.settings import *  # noqa: E402, F403

WHITENOISE_AUTOREFRESH = True  # no scan of all static files per client
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
LANGUAGE_CODE = "en"
