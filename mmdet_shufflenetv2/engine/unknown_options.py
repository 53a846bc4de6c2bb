"""Options of a command line that nobody would read."""

import inspect
from collections.abc import Iterable
from difflib import get_close_matches

from mmengine.config import Config
from mmengine.runner import Runner


def explain_unknown_option(cfg: Config, options: Iterable[str]) -> str | None:
    """Say which option has no effect, and what is like it.

    Below the top a config may be given what it does not have, such as an
    argument that is left at its default, so only first names are looked at.

    Args:
        cfg: The config without the options.
        options: Their dotted names.

    Returns:
        A sentence on the first option whose first name is neither in the
        config nor one that mmengine's runner reads; None if there is none.
    """
    known = {*cfg, *inspect.signature(Runner).parameters}
    for option in options:
        name = option.partition('.')[0]
        if name not in known:
            like = get_close_matches(name, known, n=1)
            return (
                f'--cfg-options {option}: {name!r} is neither in the config '
                'nor known to the runner'
                + (f'; did you mean {like[0]!r}?' if like else '')
            )
    return None
