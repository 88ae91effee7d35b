"""Train on a data layer in Python: python_layers.py ITERATIONS, in a folder to write to."""

import os
import sys

import caffe
from caffe import layers as L

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


def toy_net(phase, batch_size):
    n = caffe.NetSpec()
    n.data, n.label = L.Python(
        module="toy_layers",
        layer="BlobsDataLayer",
        param_str=str({"batch_size": batch_size, "classes": 3}),
        ntop=2,
    )
    n.ip = L.InnerProduct(n.data, num_output=3, weight_filler=dict(type="xavier"))  # noqa: C408
    n.loss = L.SoftmaxWithLoss(n.ip, n.label)
    if phase == "test":
        n.acc = L.Accuracy(n.ip, n.label)
    return n.to_proto()


for phase, batch_size in (("train", 16), ("test", 30)):
    with open(phase + ".prototxt", "w") as f:
        f.write(str(toy_net(phase, batch_size)))
with open("solver.prototxt", "w") as f:
    f.write('train_net: "train.prototxt" test_net: "test.prototxt" test_iter: 2 ')
    f.write('test_interval: 1000 base_lr: 0.5 lr_policy: "fixed" momentum: 0.9 display: 0')

caffe.set_random_seed(1)
solver = caffe.get_solver("solver.prototxt")
solver.step(int(sys.argv[1]))
accuracy = float(solver.test_nets[0].forward()["acc"])
print("accuracy", accuracy)
