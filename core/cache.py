"""The cache in Valkey, with its connections kept for the whole process."""

from functools import cache, cached_property
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient


class KeptRedisCache(RedisCache):
    """
    Django's, except for whose the connections are.

    Django makes a cache object for each context, and here every request has a context of its own: with its own client
    it would connect anew each time it looks at the cache. The client and its pool may be used by any thread.
    """

    _servers: list[str]
    _options: dict[str, Any]

    @cached_property
    def _cache(self) -> RedisCacheClient:
        return _client(tuple(self._servers), **self._options)


@cache
def _client(servers: tuple[str, ...], **options: Any) -> RedisCacheClient:
    return RedisCacheClient(list(servers), **options)
