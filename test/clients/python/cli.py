"""Commands of `hf`, the client's command line, in one process: on its own, each takes half a second to start."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from click.testing import CliRunner
from huggingface_hub import HfApi
from huggingface_hub.cli.hf import app
from steps import Arguments, run


def commands(_: HfApi, args: Arguments) -> object:
    """Runs each command line, `{name}` in it replaced by what the last line of that earlier command's output was."""
    said: dict[str, str] = {}
    answers = {}
    lines: Iterable[tuple[str, str]] = args["commands"].items()
    for name, line in lines:
        words = [word.format(**said) for word in shlex.split(line)]
        result = CliRunner().invoke(app, words)
        said[name] = result.output.strip().rpartition("\n")[2]
        answers[name] = {
            "code": result.exit_code,
            "out": result.output,
            "error": "" if result.exception is None else repr(result.exception),
        }
    return answers


run({"commands": commands})
