"""Looking after the root: what occupies it, what can go, and whether it is sound."""

from __future__ import annotations

from attrs import frozen

from ross.services.checker import Checker
from ross.services.pruner import Pruner
from ross.services.usage import Usage


@frozen(kw_only=True)
class Storage:
    """The services that look after the root."""

    usage: Usage
    checker: Checker
    pruner: Pruner
