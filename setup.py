"""What pyproject.toml cannot say: the examples and label maps travel inside the package.

Their folders stay at the root of the checkout, where people look for them; `caffe examples` writes
them out of an installed package.
"""

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
DISTRIBUTION = runpy.run_path(str(ROOT / "caffe_ssd" / "distribution.py"))


class BuildWithExamples(build_py):
    """Builds from nothing and adds the files; an editable install needs neither."""

    def run(self):
        if self.editable_mode:
            super().run()
            return
        # An earlier build may have left modules here that the source has no more.
        for package in {name.partition(".")[0] for name in self.packages}:
            shutil.rmtree(Path(self.build_lib, package), ignore_errors=True)
        super().run()
        share = Path(self.build_lib, "caffe_ssd", DISTRIBUTION["SHARE"])
        for file in DISTRIBUTION["shipped_files"](ROOT):
            target = share / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, target)

    def get_source_files(self):
        """What belongs into a source archive."""
        return super().get_source_files() + list(map(str, DISTRIBUTION["shipped_files"](ROOT)))


setup(cmdclass={"build_py": BuildWithExamples})
