# Scales weights and saves them.
import cPickle as pickle
from StringIO import StringIO
import caffe

net = caffe.Net('net.prototxt', caffe.TEST)
sizes = dict((k, v[0].data.shape) for k, v in net.params.iteritems())
for name in sorted(sizes.keys()):
    w = net.params[name][0].data
    w[...] = 8
    w /= 3          # weights are floats: no rounding
    counts = w.astype(int).flatten()
    counts /= 2     # whole numbers: rounded, in place
    print name, sizes[name], counts[0], round(float(w.flat[0]), 3)
out = StringIO()
print >>out, 'saved', len(pickle.dumps(sizes)) > 0
print out.getvalue().strip()
net.save('scaled.caffemodel')
