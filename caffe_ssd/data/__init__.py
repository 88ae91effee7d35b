"""Records of a database -> batches for a net.

`records` reads a database, `annotated` and `decode` its records; `distort`, `expand`, `sampler`,
`resize`, `noise` and `mean` are the stages that `transform` chains; `batches` makes batches by
number, `loader` hands them out in sequence.
"""
