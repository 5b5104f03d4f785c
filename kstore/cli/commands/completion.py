"""``kstore completion``."""

from __future__ import annotations

import click

from kstore.cli.grammar import declare
from kstore.cli.output import write

__all__ = ["command"]

_SHELLS = ("bash", "zsh", "fish")


@declare(
    "completion",
    examples=(
        ('eval "$(kstore completion bash)"', "in ~/.bashrc"),
        ('eval "$(kstore completion zsh)"', "in ~/.zshrc"),
        (
            "kstore completion fish > ~/.config/fish/completions/kstore.fish",
            "once, for fish",
        ),
    ),
)
@click.argument("shell", type=click.Choice(_SHELLS), metavar="|".join(_SHELLS))
def command(shell: str) -> None:
    """Print a script that makes the shell complete commands, options and image names."""
    from kstore.cli.main import COMPLETE_VARIABLE, cli
    from kstore.cli.shells import shell_class

    write(shell_class(shell)(cli, {}, "kstore", COMPLETE_VARIABLE).source())
