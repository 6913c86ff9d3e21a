"""The part of the build that pyproject.toml cannot say: files from the top of the repository go into the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

INSTALLED = ("dagster.yaml", "workspace.yaml", "sql/*.sql")
"""Read by an installed package in its folder `installed`, and by a checkout where they are."""


class BuildWithFiles(build_py):
    """Copies the files, except for an editable installation, which is a checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        top = Path(__file__).parent
        for pattern in INSTALLED:
            for file in sorted(top.glob(pattern)):
                copy = Path(self.build_lib, "klaviyo_pipeline", "installed", file.relative_to(top))
                self.mkpath(str(copy.parent))
                self.copy_file(str(file), str(copy))


setup(cmdclass={"build_py": BuildWithFiles})
