"""A simulated inference engine: OpenAI's API with a chosen speed, prefix cache, faults and lies, and no model."""

from scenarios.engine.app import Engine
from scenarios.engine.behaviour import Behaviour

__all__ = ["Behaviour", "Engine"]
