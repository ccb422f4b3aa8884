"""Client, meter and command line of the Ciyuan token exchange."""

from ciyuan.client import AsyncClient, Client
from ciyuan.errors import CiyuanError
from ciyuan.transport import Retry

__all__ = ["AsyncClient", "CiyuanError", "Client", "Retry"]
