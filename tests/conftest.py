"""In which order pytest's workers take the tests: the dearest files begin, since one that begins last keeps the other processors
waiting, and notebooks come last, which share nothing and go wherever a worker is free."""
DEAREST = ["explore_browser", "kills", "edtalk", "real", "experiment", "readme", "wheel", "train", "mesh", "encode", "ddp", "evaluate"]


def place(item):
    name = item.path.stem.removeprefix("test_")
    return DEAREST.index(name) if name in DEAREST else len(DEAREST) + (name == "notebooks")


def pytest_collection_modifyitems(items): items.sort(key=place)
