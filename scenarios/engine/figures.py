"""What a simulated engine publishes of itself, by vLLM's names."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator


class Figures:
    """Counters since the start of the process."""

    def __init__(self) -> None:
        self.prompt_tokens = self.generation_tokens = self.cached_tokens = 0
        self.running_requests = 0
        self.first_tokens, self.first_token_seconds = 0, 0.0
        self.ended: Counter[str] = Counter()
        self._created = time.time()

    def count(self, *, prompt: int = 0, cached: int = 0, output: int = 0) -> None:
        self.prompt_tokens += prompt
        self.cached_tokens += cached
        self.generation_tokens += output

    def first_token(self, seconds: float) -> None:
        self.first_tokens += 1
        self.first_token_seconds += seconds

    def finished(self, reason: str) -> None:
        self.ended[reason] += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.running_requests += 1
        try:
            yield
        finally:
            self.running_requests -= 1

    def exposition(self, model: str) -> str:
        """Prometheus' text format."""
        label = f'{{model_name="{model}"}}'
        lines = [
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{label} {self.running_requests}",
        ]
        counters = {
            "vllm:prompt_tokens": self.prompt_tokens, "vllm:generation_tokens": self.generation_tokens,
            "vllm:prefix_cache_queries": self.prompt_tokens, "vllm:prefix_cache_hits": self.cached_tokens,
        }  # fmt: skip
        for name, value in counters.items():
            lines += [f"# TYPE {name} counter", f"{name}_total{label} {value}"]
            lines.append(f"{name}_created{label} {self._created}")
        lines.append("# TYPE vllm:request_success counter")
        for reason, value in sorted(self.ended.items()):
            if reason != "abort":
                lines.append(f'vllm:request_success_total{{model_name="{model}",finished_reason="{reason}"}} {value}')
        lines += [
            "# TYPE vllm:time_to_first_token_seconds summary",
            f"vllm:time_to_first_token_seconds_count{label} {self.first_tokens}",
            f"vllm:time_to_first_token_seconds_sum{label} {self.first_token_seconds}",
        ]
        return "\n".join(lines) + "\n"
