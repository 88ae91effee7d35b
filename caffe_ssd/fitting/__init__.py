"""From a folder of annotated pictures to a trained detector: what `caffe fit` is made of."""
