"""LICENCES.md says of every pinned package what it allows, and what the plain install brings is free for every use;
requirements-lock.txt has hashes of the same packages.
"""
import re

import licences
import lock
import pytest


def cells(): return {name: [c.strip() for c in line.strip("|").split("|")] for name, line in licences.rows().items()}


def test_the_table_is_that_of_the_pinned_packages():
    now, was = licences.table().splitlines(), licences.FILE.read_text("utf-8").splitlines()
    assert now == was, "run `python tests/licences.py`: " + "; ".join(sorted({*now} ^ {*was}))[:500]
    assert set(cells()) == set(licences.pinned()) and all(all(c[:4]) for c in cells().values()), "each has a licence and a bringer"


def test_a_new_version_or_package_changes_the_table(monkeypatch):
    pins = licences.pinned()
    for other in pins | {"tqdm": ["99.0"]}, pins | {"left-pad": ["1.0"]}, {k: v for k, v in pins.items() if k != "tqdm"}:
        monkeypatch.setattr(licences, "pinned", lambda other=other: other)
        assert licences.table() != licences.FILE.read_text("utf-8")


def test_nothing_for_research_only_comes_with_the_plain_install():
    plain = {name: c[2] for name, c in cells().items() if c[3] == "cmet"}
    odd = {n: t for n, t in plain.items() if not re.search(r"MIT|Apache|BSD|ISC|PSF|MPL|HPND", t)}
    assert set(odd) == {"espeakng-loader"} and set(odd.values()) == {"names none"}
    assert {"opensmile", "audobject", "funasr", "kaldiio"}.isdisjoint(plain)
    brought = licences.brought(["opensmile", "funasr"])
    assert {"audobject", "kaldiio"} <= brought, "and with whom they come is still so"


@pytest.mark.parametrize("says, plain", [
    ({"License-Expression": "MIT OR Apache-2.0", "License": "x"}, "MIT OR Apache-2.0"), ({"License": "Apache Software License 2.0"}, "Apache-2.0"),
    ({"License": "UNKNOWN", "Classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"), ({"License": "Do what you like.\n"*9}, "names none"),
    ({"License": "3-Clause BSD License"}, "BSD-3-Clause"), ({}, "names none")])
def test_what_metadata_say_in_one_spelling(monkeypatch, says, plain):
    class Told(dict):
        def get_all(self, key): return self.get(key)
    monkeypatch.setattr(licences, "metadata", lambda name: Told(says))
    assert licences.licence("some-package") == plain


def test_the_lock_has_hashes_of_exactly_the_pinned_versions():
    "Made anew from what it holds it is the same file: no version without a hash, none that is not pinned, no address."
    found = lock.hashes(text := lock.FILE.read_text("utf-8"))
    assert set(found) == {exact for _, exact, _ in lock.pins()} and all(found.values()), "run `python tests/lock.py`"
    assert lock.written(found) == text and "://" not in text and "--index" not in text
    assert licences.pinned().keys() == {name for name, *_ in lock.pins()}
