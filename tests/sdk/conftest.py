from collections.abc import Iterator

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import settings

# A loaded machine makes single examples slow; what an example computes is what counts here.
settings.register_profile("sdk", deadline=None)
settings.load_profile("sdk")


@pytest.fixture
def one_transaction() -> Iterator[None]:
    """A request in this process does not close the test's connection, in whose transaction everything happens."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)
