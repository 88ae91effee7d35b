"""Generators of the published detectors.

They use pycaffe only (`caffe.layers`, `caffe.params`, `caffe.NetSpec`, `caffe.proto.caffe_pb2`) and
what Python 2.7 and 3 have in common, so they also run on a build of the original SSD-Caffe, where
`make overlay` copies them. Hence no annotations, and ValueError where the engine would raise a
CaffeError. What needs the engine is elsewhere: `caffe.catalogue` has the published tables.

* blocks      convolutions with their batch norms, in both orders
* dsod        the densely connected bodies, DS/A-B-k-theta
* grp_dsod    those of GRP-DSOD: a pyramid of maps, a gate on each
* vgg, resnet, inception   bodies of SSD under the names of the released classifiers' layers
* backbone    what VGG16 and ZFNet are made of
* scratchdet  the residual bodies of ScratchDet
* named_layers, multibox_head   what `caffe.model_libs` offers to SSD's scripts
* datasets    the published data sets: paths, classes, result files
* normalisers  a net's batch norm replaced
* ssd         the train, test and deploy net of any body
* recipe      body x data set x schedule: a model that can be trained, and its solver
* dsod_recipes, ...             what is trained: variants x data sets
* ablations   the ablation table of DSOD, as bodies
* shapes      the synthetic data set that small nets learn in minutes
* transfer    a trained model as the start of one with other classes
* devices, data_check, flag_parser, flags, job, script   the command line of the example scripts
* records, files   what Python 2.7 lacks
"""
