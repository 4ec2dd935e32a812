"""Build cmet from settings.ini; data/ travels inside the package as cmet/data, what `cmet run` needs as cmet/templates."""
from configparser import ConfigParser
from pathlib import Path
from re import findall

from setuptools import setup
from setuptools.command.build_py import build_py

cfg = ConfigParser(delimiters=["="])
cfg.read("settings.ini", encoding="utf-8")
cfg = cfg["DEFAULT"]
DATA = [str(p.relative_to("data")) for p in Path("data").rglob("*") if p.is_file()]
GRIDS = sorted(Path("nbs/97_experiments/grids").glob("*.yaml"))
TEMPLATES = {name for grid in GRIDS for name in findall(r"(?m)^template: \.\./(\S+)", grid.read_text(encoding="utf-8"))}
EXPERIMENTS = [f"grids/{grid.name}" for grid in GRIDS] + sorted(TEMPLATES | {"extract.ipynb", "report.ipynb"})
PACKAGES = ["cmet"] + sorted(f"cmet.{p.parent.name}" for p in Path("cmet").glob("*/__init__.py"))


class BuildWithData(build_py):
    "Data and templates lie outside the package: a wheel gets copies, a checkout has them beside it."
    def run(self):
        super().run()
        if self.editable_mode: return
        for source, names, folder in ("data", DATA, "data"), ("nbs/97_experiments", EXPERIMENTS, "templates"):
            for name in names:
                place = Path(self.build_lib)/"cmet"/folder/name
                self.mkpath(str(place.parent))
                self.copy_file(str(Path(source)/name), str(place))


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license="Apache-2.0",
    python_requires=f">={cfg['min_python']},<3.13",
    packages=PACKAGES,
    package_dir={"": "."},  # so plain that an editable install is a line in a .pth file
    cmdclass={"build_py": BuildWithData},
    install_requires=cfg["requirements"].split(),
    extras_require={k: cfg[f"{k}_requirements"].split() for k in ("dev", "ray", "opensmile", "emotion2vec")},
    entry_points={"console_scripts": cfg["console_scripts"].split()},
    zip_safe=False,
)
