"""``kstore version``."""

from __future__ import annotations

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.output import write_table
from kstore.cli.session import Session, pass_session

__all__ = ["command"]


@declare(
    "version",
    examples=(("kstore version --format '{{.kstore}}'", "the number alone"),),
)
@format_option(example="kstore", short=("-f",))
@pass_session
def command(session: Session, form: str | None) -> None:
    """Show the versions of kstore and of what it stands on."""
    from kstore.operations.info import versions

    shape = Form(form)
    found = versions()
    if shape.given:
        shape.write_one(found)
    else:
        write_table((), [(f"{name}:", text) for name, text in found.items()], heading=False)
