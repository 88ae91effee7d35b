"""Annotated folders of pictures: read in any common format, checked, divided, written.

files -> Dataset -> findings          -> train and test -> another format, or what LMDBs are made of
         reading    doctor               splitting         writing
"""

from caffe_ssd.datasets.dataset import AnnotatedPicture, Dataset, Finding
from caffe_ssd.datasets.doctor import check
from caffe_ssd.datasets.formats import FORMATS
from caffe_ssd.datasets.net_priors import NetPriors, priors_of_net
from caffe_ssd.datasets.reading import read_folder
from caffe_ssd.datasets.repair import repaired
from caffe_ssd.datasets.splitting import split
from caffe_ssd.datasets.writing import write_folder, write_voc

__all__ = [
    "FORMATS",
    "AnnotatedPicture",
    "Dataset",
    "Finding",
    "NetPriors",
    "check",
    "priors_of_net",
    "read_folder",
    "repaired",
    "split",
    "write_folder",
    "write_voc",
]
