__version__ = "0.1.0"

import importlib
import sys
from importlib.machinery import ModuleSpec

# Where modules are that stood side by side before there were rooms. In this version the old names are still found.
MOVED = dict(actors="corpus.actors", additivity="evaluate.additivity", assets="io.assets",
             audio2lip="edtalk.audio2lip", audit="corpus.audit", caution="edit.caution",
             checkpoint="train.checkpoint", codec="edtalk.codec", commands="cli", corpora="corpus.named",
             crop="edtalk.crop", curves="vectors.curves", decoder="edtalk.network", demo="edit.demo",
             describe="vectors.algebra", distances="evaluate.frechet", doubt="vectors.uncertainty",
             download="io.download", ear="mappers.ear", emotion2vec="speech.emotion2vec", encode="corpus.encode",
             engine="io.jobs", espeak="corpus.voice", examples="mappers.closed_form", experiment="experiments.runs",
             explore="explorer.app", export="explorer.export", fidelity="evaluate.fidelity", files="io.files",
             folder="evaluate.pairing", follow="edit.follow", grammar="vectors.grammar", grids="experiments.grids",
             inception="evaluate.inception", landmarks="face.landmarks", layers="transformer",
             layouts="corpus.datasets", live="explorer.worker", losses="train.losses", mapping="mappers.base",
             maps="viz.maps", measure="evaluate.benchmark", media="io.media", mesh="face.mesh",
             metrics="evaluate.judges", motion="edtalk.network", mouth="face.mouth", muscles="face.action_units",
             neural="mappers.neural", obtain="io.install", operations="vectors.algebra", pairs="train.pairs",
             panels="explorer.panels", parallel="train.parallel", people="corpus.people", plane="viz.maps",
             probe="vectors.uncertainty", protocols="evaluate.generalisation", regression="mappers.closed_form",
             request="edit.request", results="viz.tables", resume="io.resume", rig="face.action_units",
             sampling="corpus.sampling", scene="explorer.preview", score="train.validation", shade="face.shading",
             shelf="io.catalogue", sound="io.sound", step="train.step", studio="corpus.studio",
             stylegan="edtalk.network", syncnet="evaluate.syncnet", uneven="face.asymmetry", voicing="speech.voicing",
             warp="face.warp", weights="io.tensors", whisper="speech.whisper", widgets="explorer.widgets")


class _Moved:
    "Finds `cmet.mesh` as `cmet.face.mesh`: the same module, with a word about it."
    @staticmethod
    def find_spec(name, path=None, target=None):
        kit, _, old = name.rpartition(".")
        return ModuleSpec(name, _Moved()) if kit == "cmet" and old in MOVED else None

    def create_module(self, spec):
        import warnings
        new = "cmet." + MOVED[spec.name.rpartition(".")[2]]
        warnings.warn(f"{spec.name} is {new} now; the old name goes with the next version", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self.spec = module.__spec__
        return module

    def exec_module(self, module): module.__spec__ = self.spec  # the import system has just replaced it


sys.meta_path.append(_Moved)
