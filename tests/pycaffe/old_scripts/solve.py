# The loop of so many notebooks.
import numpy as np
import caffe

caffe.set_mode_cpu()
solver = caffe.get_solver('solver.prototxt')
niter, test_interval = 7, 3
train_loss = np.zeros(niter)
test_acc = np.zeros(niter / test_interval + 1)
for it in xrange(niter):
    solver.step(1)
    train_loss[it] = solver.net.blobs['loss'].data
    if it % test_interval == 0:
        print 'Iteration', it, 'testing...'
        test_acc[it // test_interval] = solver.iter
epochs = niter
epochs /= 2
print "{} slots, {} half".format(len(test_acc), epochs)
try:
    solver.net.blobs['nothing']
except KeyError, e:
    print 'no blob', e
