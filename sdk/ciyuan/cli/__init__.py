"""The command line: `ciyuan …`. Each command translates its arguments, calls the SDK and prints a table or JSON."""

from ciyuan.cli.base import main

__all__ = ["main"]
