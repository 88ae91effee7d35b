"""Python 3: runs as it is."""
import sys

first, *rest = sys.argv[1:]
print(f"{7 / 2} {first} {rest}", file=sys.stdout)
sys.exit("a message")
