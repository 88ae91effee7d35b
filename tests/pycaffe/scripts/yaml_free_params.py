"""Reads the dict that a prototxt carries in `param_str`."""

import ast


def parse(text):
    return ast.literal_eval(text)
