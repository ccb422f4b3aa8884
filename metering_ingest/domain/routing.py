"""Where reported usage belongs: routes of a subject by time, and the book that knows them."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Route(NamedTuple):
    """
    Where the usage of one subject belongs, from `start_ms` to `end_ms`: a contract (0: none), or `STANDING`, the list
    contract that is made on first need. Usage that is stored at `settles_ms` or later has it settled again.
    """

    start_ms: int
    end_ms: int
    contract_id: int
    settles_ms: int


class Routes(NamedTuple):
    """The routes of a subject that meet one hour, in order, without gaps; or why there are none."""

    routes: tuple[Route, ...]
    code: str = ""
    detail: str = ""


#: The contract of usage outside any market: the standing one, whose id the book tells.
STANDING = -1
#: A window whose market has not made its contracts yet.
UNNAMED = -2
#: What an event is kept aside with that needs nobody's help, only time.
PENDING_CODE = "contract-pending"


class RouteBook(Protocol):
    """Names contracts. It may read the database, and make a standing contract, on a connection of its own."""

    def __call__(self, wanted: set[tuple[str, int]], /) -> Mapping[tuple[str, int], Routes]:
        """Return the routes of (subject, hour since 1970) pairs."""

    def standing(self, subject: str, /) -> int:
        """Return the contract of a subject's usage outside any market."""

    def is_probe(self, attempt_id: str, /) -> bool:
        """Whether the exchange itself made the attempt: its usage is nobody's, under minus the contract's id."""
