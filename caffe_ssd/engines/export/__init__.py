"""A net in phase TEST written for programs that know nothing of Caffe; one file per format."""
