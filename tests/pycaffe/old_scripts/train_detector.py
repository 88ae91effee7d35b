# Writes nets, solver and shell job as the scripts of SSD do, and starts the job.
from __future__ import print_function
import caffe
from caffe.model_libs import *
from google.protobuf import text_format

import math
import os
import shutil
import stat
import subprocess
import sys

caffe_root = os.getcwd()
run_soon = True
resume_training = True

job_name = "OLD_{}".format("64x64")
model_name = "SMALL_{}".format(job_name)
save_dir = "models/{}".format(job_name)
job_dir = "jobs/{}".format(job_name)
train_net_file = "{}/train.prototxt".format(save_dir)
solver_file = "{}/solver.prototxt".format(save_dir)
snapshot_prefix = "{}/{}".format(save_dir, model_name)
job_file = "{}/{}.sh".format(job_dir, model_name)

min_dim = 64
mbox_source_layers = ['conv1', 'conv2', 'conv3', 'conv4']
min_ratio = 20
max_ratio = 91
# 71 / 2 is 35 in the Python of this script
step = (max_ratio - min_ratio) / (len(mbox_source_layers) - 2)
min_sizes = []
max_sizes = []
for ratio in xrange(min_ratio, max_ratio + 1, step):
  min_sizes.append(min_dim * ratio / 100)
  max_sizes.append(min_dim * (ratio + step) / 100)
min_sizes = [min_dim * 10 / 100] + min_sizes
max_sizes = [min_dim * 20 / 100] + max_sizes
print(step, min_sizes, max_sizes)

batch_size = 6
accum_batch_size = 15
iter_size = accum_batch_size / batch_size

make_if_not_exist(save_dir)
make_if_not_exist(job_dir)

net = caffe.NetSpec()
net.data, net.label = L.DummyData(ntop=2, shape=[dict(dim=[2, 3, 8, 8]), dict(dim=[2, 4])])
net.conv1 = L.Convolution(net.data, num_output=4, kernel_size=3, weight_filler=dict(type='xavier'))
print(net.keys()[-1])
net.loss = L.EuclideanLoss(L.InnerProduct(net[net.keys()[-1]], num_output=4), net.label)
with open(train_net_file, 'w') as f:
    print('name: "{}_train"'.format(model_name), file=f)
    print(net.to_proto(), file=f)
shutil.copy(train_net_file, job_dir)

solver = caffe_pb2.SolverParameter(
        train_net=train_net_file,
        snapshot_prefix=snapshot_prefix,
        iter_size=iter_size, max_iter=2, snapshot=2, base_lr=0.01, lr_policy="fixed",
        solver_mode=P.Solver.CPU)
with open(solver_file, 'w') as f:
    print(solver, file=f)
shutil.copy(solver_file, job_dir)

max_iter = 0
for file in os.listdir(save_dir):
  if file.endswith(".solverstate"):
    basename = os.path.splitext(file)[0]
    iter = int(basename.split("{}_iter_".format(model_name))[1])
    if iter > max_iter:
      max_iter = iter
train_src_param = ''
if resume_training and max_iter > 0:
  train_src_param = '--snapshot="{}_iter_{}.solverstate" \\\n'.format(snapshot_prefix, max_iter)

with open(job_file, 'w') as f:
  f.write('cd {}\n'.format(caffe_root))
  f.write('./build/tools/caffe train \\\n')
  f.write('--solver="{}" \\\n'.format(solver_file))
  f.write(train_src_param)
  f.write('2>&1 | tee {}/{}.log\n'.format(job_dir, model_name))

py_file = os.path.abspath(__file__)
shutil.copy(py_file, job_dir)
os.chmod(job_file, stat.S_IRWXU)
if run_soon:
  subprocess.call(job_file, shell=True)
