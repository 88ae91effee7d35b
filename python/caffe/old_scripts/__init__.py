"""Scripts as people wrote them for the original, in Python 2, run unchanged.

* dialect    which Python a source is written in
* translate  a source of Python 2 as code of Python 3, in memory; divides integers as Python 2 did
* run        a script with its modules, and the tools that its jobs start
"""

from caffe.old_scripts.run import run_script
from caffe.old_scripts.translate import compiled

__all__ = ["compiled", "run_script"]
