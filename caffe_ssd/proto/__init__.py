"""SSD-Caffe's messages, their text and binary files, and the upgrades of old ones."""
