"""Layers that the original SSD-Caffe does not have: other forks' types, and variants of its own.

A file here is like any other layer's. A new type is also named in `proto/extensions.py`, so that
`caffe upgrade_net -strict` refuses it. A variant has the name of an original type: `register_layer`
with `when` says how the message tells it.
"""
