"""The command `caffe`: one module per action."""
