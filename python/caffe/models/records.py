"""Immutable records with named fields and defaults, in any Python from 2.7 on."""

from collections import namedtuple


def record(name, *fields):
    """Return a namedtuple class to derive from.

    Args:
        name: of the class.
        fields: names, or pairs of a name and its default, these last.
    """
    named = [field for field in fields if isinstance(field, str)]
    defaults = fields[len(named) :]
    base = namedtuple(name, named + [field for field, _ in defaults])
    base.__new__.__defaults__ = tuple(default for _, default in defaults)
    return base
