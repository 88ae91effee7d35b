"""A parser that knows what each of its flags does to a recipe, and how it marks names of files."""

import argparse
import os
import re
import sys
import zlib

from caffe.models.records import record

LONGEST_MARKS = 120  # characters; names of files may have 255


class RecipeFlag(
    record(
        "RecipeFlag",
        "name",
        ("mark", None),
        ("field", None),
    )
):
    """What a flag does to a recipe.

    name: of its value, with underscores.
    mark: what names of folders get, `{}` its value; none where the training stays the same or has
        other names anyway.
    field: what it sets: a field of the recipe, or `dataset`, `schedule` or `detector`, a dot and
        the name there.
    """

    def apply(self, recipe, value):
        """Return the recipe with the field set."""
        if self.field is None:
            return recipe
        part, _, name = self.field.rpartition(".")
        if not part:
            return recipe._replace(**{name: value})
        return recipe._replace(**{part: getattr(recipe, part)._replace(**{name: value})})

    def label(self, value):
        """Return the mark of a value."""
        return self.mark.format(_label(value))


def _label(value):
    """Return a value as a part of file names."""
    if isinstance(value, (list, tuple)):
        return "-".join(_label(each) for each in value)
    if isinstance(value, float):
        return "{:g}".format(value)
    folder, name = os.path.split(str(value))
    stem = re.sub(r"[^\w.+]+", "-", os.path.splitext(name)[0] if folder or "." in name else name)
    return stem if not folder else "{}-{}".format(stem, _digest(os.path.normpath(folder)))


def _digest(text):
    return "{:08x}".format(zlib.crc32(text.encode("utf-8")) & 0xFFFFFFFF)


class ScriptParser(argparse.ArgumentParser):
    """A parser of flags written with `-` or `_`, which knows what each does to a recipe."""

    def __init__(self, script, example, **options):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        epilog = "example: python {} {}".format(os.path.relpath(script), example)
        argparse.ArgumentParser.__init__(self, epilog=epilog, **options)
        self.flags = []

    def add_flag(self, name, mark, field=None, to=None, **options):
        """Add a flag.

        Args:
            name: `--batch-size`.
            mark: see `RecipeFlag`; said for every flag, so that none is forgotten.
            field: see `RecipeFlag`.
            to: a group of flags that exclude each other.
            options: of `argparse.ArgumentParser.add_argument`.
        """
        action = (self if to is None else to).add_argument(name, **options)
        self.flags.append(RecipeFlag(action.dest, mark, field))

    def parse_known_args(self, args=None, namespace=None):
        """Parse; see `argparse.ArgumentParser.parse_known_args`."""
        args = sys.argv[1:] if args is None else args
        args = [re.sub(r"^--[^=]+", lambda m: m.group().replace("_", "-"), word) for word in args]
        return argparse.ArgumentParser.parse_known_args(self, args, namespace)


def marked(recipe, marks):
    """Return a recipe whose job also has these marks, shortened where they would be too long."""
    if not marks:
        return recipe
    text = "_".join(marks)
    if len(text) > LONGEST_MARKS:
        text = "{}-{}".format(text[:LONGEST_MARKS], _digest(text))
    return recipe._replace(job="{}_{}".format(recipe.job, text))


def positive(text):
    """Return a whole number of at least 1; the type of flags that count."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1, got {}".format(text))
    return number
