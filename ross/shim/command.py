"""What a container runs: entrypoint and arguments, merged by the field's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ross.errors import InvalidArgument, Reason

if TYPE_CHECKING:
    from ross.model.containers import ContainerSpec
    from ross.oci.image import Execution


def effective_command(spec: ContainerSpec, execution: Execution) -> tuple[str, ...]:
    """The entrypoint, followed by the arguments.

    An entrypoint of the spec drops the image's command too; arguments of the spec replace the image's command.

    Raises:
        InvalidArgument: there is nothing to run.
    """
    if spec.entrypoint is not None:
        command = (*spec.entrypoint, *spec.args)
    else:
        command = (*(execution.entrypoint or ()), *(spec.args or execution.cmd or ()))
    if not command:
        raise InvalidArgument("there is no command to run: the image has none", hint="give one behind the image's name")
    if not command[0]:
        raise InvalidArgument("there is no command to run: its first word is empty", reason=Reason.COMMAND_NOT_FOUND)
    return command
