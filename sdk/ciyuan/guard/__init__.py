"""
The guard: a provider's reverse proxy in front of its OpenAI-compatible engine (`ciyuan guard`, extra `ciyuan[guard]`).

It lets in whoever carries a contract's access token, within its window, for its model and at its rate; it passes
answers on as they come; and it meters what was served so that neither a kill nor an outage loses or doubles any of it.
No prompt and no answer is ever written anywhere. Read `proxy` first, then `journal` for how a count survives.
"""

from ciyuan.guard.refusals import Refusal
from ciyuan.guard.settings import GuardSettings

__all__ = ["GuardSettings", "Refusal"]
