"""The cache's connections are the process's, whichever object looks at it."""

from core.cache import KeptRedisCache


def test_caches_of_one_address_share_a_client():
    one, other = (KeptRedisCache("redis://127.0.0.1:1/2", {}) for _ in range(2))
    assert one._cache is other._cache
    assert KeptRedisCache("redis://127.0.0.1:1/3", {})._cache is not one._cache
