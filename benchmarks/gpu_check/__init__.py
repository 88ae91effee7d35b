"""What a machine with a CUDA device shows of this package: right, repeatable, fast.

example: python -m benchmarks.gpu_check --quick --out gpu_check
"""
