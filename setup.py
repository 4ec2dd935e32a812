"""Build cmet from settings.ini; data/ travels inside the package as cmet/data, what `cmet run` needs as cmet/experiments."""
from configparser import ConfigParser
from pathlib import Path
from re import findall

from setuptools import setup

cfg = ConfigParser(delimiters=["="])
cfg.read("settings.ini", encoding="utf-8")
cfg = cfg["DEFAULT"]
DATA = [str(p.relative_to("data")) for p in Path("data").rglob("*") if p.is_file()]
GRIDS = sorted(Path("nbs/experiments/grids").glob("*.yaml"))
TEMPLATES = {name for grid in GRIDS for name in findall(r"(?m)^template: \.\./(\S+)", grid.read_text(encoding="utf-8"))}
EXPERIMENTS = [f"grids/{grid.name}" for grid in GRIDS] + sorted(TEMPLATES | {"extract.ipynb", "report.ipynb"})

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license="Apache-2.0",
    python_requires=f">={cfg['min_python']},<3.13",
    packages=["cmet", "cmet.data", "cmet.experiments"],
    package_dir={"cmet": "cmet", "cmet.data": "data", "cmet.experiments": "nbs/experiments"},
    package_data={"cmet.data": DATA, "cmet.experiments": EXPERIMENTS},
    install_requires=cfg["requirements"].split(),
    extras_require={k: cfg[f"{k}_requirements"].split() for k in ("dev", "ray")},
    entry_points={"console_scripts": cfg["console_scripts"].split()},
    zip_safe=False,
)
