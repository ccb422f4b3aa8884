from functools import cache

import httpx
import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_certificate_store():
    """Every client reads the certificate authorities anew, 70 ms each, and none of these speaks TLS."""
    module = httpx._transports.default
    original = module.create_ssl_context
    module.create_ssl_context = cache(lambda *_, **__: original())
    yield
    module.create_ssl_context = original
