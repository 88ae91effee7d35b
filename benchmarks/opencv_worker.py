"""Runs a Caffe detector in OpenCV 4's DNN module; started by detection.py in another environment.

usage: python opencv_worker.py DEPLOY CAFFEMODEL INPUT.npy OUTPUT.npy THREADS

Writes the version, then for each line it reads runs the net once and writes the seconds.
"""

import sys
import time

import cv2
import numpy as np

deploy, weights, source, target, threads = sys.argv[1:]
cv2.setNumThreads(int(threads))
net = cv2.dnn.readNetFromCaffe(deploy, weights)
net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
data = np.load(source)
print(cv2.__version__, flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    net.setInput(data)
    found = net.forward()
    print(time.perf_counter() - start, flush=True)
    np.save(target, found)
