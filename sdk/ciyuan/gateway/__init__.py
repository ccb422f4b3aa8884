"""
The buyer's gateway: one OpenAI-compatible address for all that one bought.

`choice` decides which contract serves a request and `routes` remembers what the decision needs; both are without any
input or output, so that `benchmarks.scheduler` measures the very code that serves. The server itself is
`ciyuan gateway` (extra `ciyuan[gateway]`).
"""
