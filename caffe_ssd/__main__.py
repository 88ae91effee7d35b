"""`python -m caffe_ssd` is the command `caffe`."""

import sys

from caffe_ssd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
