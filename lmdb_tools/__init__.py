"""Data set tools: lists, label maps, LMDBs, a synthetic data set, an inspector.

`python -m lmdb_tools` lists them.
"""
