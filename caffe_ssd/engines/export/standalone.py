"""The script beside an ONNX file: needs onnxruntime, numpy and cv2, and nothing of this package."""

FIRST_WORDS = '"""Finds objects in pictures: python THIS.py'

SCRIPT = '''\
"""Finds objects in pictures: python THIS.py PICTURE... [--threshold 0.5] [--model MODEL.onnx]"""
import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

parser = argparse.ArgumentParser()
parser.add_argument("pictures", nargs="+")
parser.add_argument("--threshold", type=float, default=0.5)
parser.add_argument("--model", default=str(Path(__file__).with_name("MODEL.onnx")))
args = parser.parse_args()
session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
names, mean, scale = (json.loads(facts[key]) for key in ("class_names", "mean", "scale"))
height, width = map(int, facts["input_size"].split("x"))
given = session.get_inputs()[0]
copies = given.shape[0] if isinstance(given.shape[0], int) else 1  # a file for batches of one size
for path in args.pictures:
    picture = cv2.imread(path)
    pixels = picture if given.shape[1] == 3 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    resized = np.atleast_3d(cv2.resize(pixels, (width, height))).astype(np.float32)
    data = ((resized - np.float32(mean)) * np.float32(scale)).transpose(2, 0, 1)
    rows = session.run(None, {given.name: np.stack([data] * copies)})[0].reshape(-1, 7)
    for image, label, score, *box in rows.tolist():
        if image == 0 and label >= 0 and score >= args.threshold:
            name = names.get(str(int(label)), int(label))
            print(path, name, *(f"{x:.6f}" for x in (score, *box)))
'''
"""The script; `MODEL.onnx` stands for the file's name."""
