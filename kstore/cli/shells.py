"""The scripts that make shells complete kstore's command lines.

click's own, but for bash: its readline breaks words at every ``:``, so that neither the name before
a tag nor the port after a host would ever be completed.
"""

from __future__ import annotations

import os

from click.shell_completion import (
    BashComplete,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

__all__ = ["shell_class"]

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} completion type value word
    word=${line##*[[:space:]]}
    COMPREPLY=()
    for completion in $(env COMP_WORDS="$line" %(complete_var)s=bash_complete "$1"); do
        IFS=',' read -r type value <<< "$completion"
        case $type in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        plain)
            # What stands before the last ':' is a word of its own for readline, and stays.
            if [[ $COMP_WORDBREAKS == *:* && $word == *:* ]]; then
                value=${value#"${word%%:*}:"}
            fi
            COMPREPLY+=("$value")
            ;;
        esac
    done
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    """Takes the line up to the cursor, instead of the words readline made of it."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)[1:]
        if not words or line[-1:].isspace():
            return words, ""
        return words[:-1], words[-1]


add_completion_class(_Bash)


def shell_class(shell: str) -> type[ShellComplete]:
    """How ``shell`` (bash, zsh or fish) is told about kstore."""
    found = get_completion_class(shell)
    assert found is not None, "click knows all three"
    return found
