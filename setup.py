"""Puts the viewers' page and the dashboard into the wheel, as ``make setup`` has built them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPages(build_py):
    """Copies ``viewer/dist`` and ``viewer/dashboard`` into a package that is not installed editable."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:
            for name in ("dist", "dashboard"):
                source, target = Path("viewer", name), Path(self.build_lib, "broadcaster", "viewer", name)
                shutil.rmtree(target, ignore_errors=True)  # of an earlier build: names change with contents
                if source.is_dir():
                    shutil.copytree(source, target)


setup(cmdclass={"build_py": BuildWithPages})
