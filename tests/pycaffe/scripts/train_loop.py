"""Train step by step and watch it: train_loop.py SOLVER ITERATIONS."""

import sys

import caffe
import numpy as np

caffe.set_mode_cpu()
caffe.set_random_seed(11)

solver = caffe.SGDSolver(sys.argv[1])
niter = int(sys.argv[2])
test_interval = 10
train_loss = np.zeros(niter)
test_acc = np.zeros(int(np.ceil(niter / test_interval)))

# what each layer holds: batch, channels, ...
print([(k, v.data.shape) for k, v in solver.net.blobs.items()])

for it in range(niter):
    solver.step(1)
    train_loss[it] = solver.net.blobs["loss"].data

    # run a full test every so often, on more than test_iter would look at
    if it % test_interval == 0:
        correct = 0
        for _test_it in range(4):
            solver.test_nets[0].forward()
            scores = solver.test_nets[0].blobs["ip"].data
            correct += (scores.argmax(1) == solver.test_nets[0].blobs["label"].data).sum()
        test_acc[it // test_interval] = correct / (4.0 * len(scores))
        print("Iteration", it, "accuracy", test_acc[it // test_interval])

solver.net.save("final.caffemodel")
