# Uses a module beside it, which is as old, in a Python layer.
import sys
import helpers_of_old
import caffe

open('net.prototxt', 'w').write(helpers_of_old.NET)
net = caffe.Net('net.prototxt', caffe.TEST)
net.blobs['x'].data[...] = 5
net.forward()
print helpers_of_old.half(7), net.blobs['y'].data.tolist(), ' '.join(sys.argv[1:])
