"""Speech encoders: same numbers in any batch, FunASR's real code offline, stored features, hostile files."""
import os
import socket
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import soundfile

from cmet.core import CmetError, find_data
from cmet.speech.emotion2vec import check_spec, load_emotion2vec, read_config, read_weights, tiny_emotion2vec
from cmet.speech.encoders import Emotion2vec, OpenSmile, SpeechEncoder, speech_encoder
from cmet.speech.voicing import trimmed

RATE = 16000
HUBS = {"ms": "modelscope.hub.snapshot_download", "hf": "huggingface_hub"}  # modules of `snapshot_download`


def voice(seconds=1.0, f0=120.0, level=0.3, rate=RATE, seed=0):
    "Buzzing syllables with a wandering pitch and a little noise."
    t = np.arange(int(seconds*rate))/rate
    phase = 2*np.pi*np.cumsum(f0*(1 + 0.1*np.sin(2*np.pi*3*t)))/rate
    wav = sum(np.sin(k*phase)/k for k in range(1, 15))*np.sin(2*np.pi*2*t + .5)**2
    wav = wav/np.abs(wav).max() + 0.01*np.random.default_rng(seed).standard_normal(len(t))
    return (level*wav/np.abs(wav).max()).astype(np.float32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_CACHE", str(tmp_path/"cache"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return tiny_emotion2vec(tmp_path_factory.mktemp("models")/"tiny")


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    folder, paths = tmp_path_factory.mktemp("clips"), []
    for i, (seconds, f0, level) in enumerate(((1, 110, .2), (1.7, 220, .6), (.6, 160, .4), (1, 300, .9))):
        paths.append(folder/f"{i}.wav")
        soundfile.write(paths[-1], trimmed(voice(seconds, f0, level, seed=i)), RATE)
    return paths


def encoder(name, tiny, **options):
    if name != "tiny": return OpenSmile(name, **options)
    return Emotion2vec("tiny", folder=tiny, device="cpu", **options)


@pytest.mark.parametrize("name", ["egemaps", "compare", "tiny"])
def test_batch_is_one_by_one(name, tiny, clips):
    enc = encoder(name, tiny, cache=False)
    batch = enc.encode(clips)
    single = np.concatenate([enc.encode(p) for p in clips])
    back = enc.encode(clips[::-1])[::-1]
    assert batch.shape == (len(clips), enc.dim) and batch.dtype == np.float32 and np.isfinite(batch).all()
    assert np.abs(batch - single).max() <= 1e-4 and np.abs(batch - back).max() <= 1e-4
    assert np.abs(batch[0] - batch[1]).max() > 1e-3  # and the clips are told apart


@pytest.mark.parametrize("name", ["egemaps", "compare", "tiny"])
def test_the_cache_gives_the_same_and_can_be_off(name, tiny, clips, tmp_path, monkeypatch):
    first, calls = encoder(name, tiny).encode(clips), []
    again = encoder(name, tiny)
    monkeypatch.setattr(type(again), "embed", lambda self, wav: calls.append(1) or np.zeros(self.dim))
    assert np.array_equal(again.encode(clips), first) and not calls
    kept = [p.suffix for p in (tmp_path/"cache").rglob("*") if p.is_file()]
    assert kept == [".npy"]*len(clips)  # and no temporary file is left
    encoder(name, tiny, cache=False).encode(clips[:1])
    assert len(calls) == 1


def test_an_unwritable_cache_is_no_failure(clips, tmp_path, monkeypatch):
    (tmp_path/"file").write_text("")
    monkeypatch.setenv("CMET_CACHE", str(tmp_path/"file"))
    assert OpenSmile().encode(clips[0]).shape == (1, 88)


def test_names_of_features():
    assert len(OpenSmile("egemaps").features) == 88 and len(OpenSmile("compare").features) == 6373
    assert "loudness_sma3_amean" in OpenSmile("egemaps").features


def test_loud_and_high_moves_loudness_and_pitch(tmp_path):
    soundfile.write(tmp_path/"a.wav", voice(1.5, 110, .1), RATE)
    soundfile.write(tmp_path/"b.wav", voice(1.5, 220, .8), RATE)
    enc = OpenSmile()
    a, b = (dict(zip(enc.features, row)) for row in enc.encode([tmp_path/"a.wav", tmp_path/"b.wav"]))
    octave = b["F0semitoneFrom27.5Hz_sma3nz_percentile50.0"] - a["F0semitoneFrom27.5Hz_sma3nz_percentile50.0"]
    level = b["equivalentSoundLevel_dBp"] - a["equivalentSoundLevel_dBp"]
    assert abs(octave - 12) < 0.5 and abs(level - 20*np.log10(8)) < 0.5
    assert b["loudness_sma3_amean"] > a["loudness_sma3_amean"]


def test_a_clipped_recording_does_not_wrap_around(tmp_path):
    soundfile.write(tmp_path/"over.wav", np.clip(3*voice(1, level=1), -1, 1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path/"under.wav", 0.999*np.clip(3*voice(1, level=1), -1, 1), RATE, subtype="FLOAT")
    enc = OpenSmile()
    over, under = enc.encode([tmp_path/"over.wav", tmp_path/"under.wav"])
    i = enc.features.index("loudness_sma3_amean")
    assert abs(over[i] - under[i]) < 0.01


@pytest.mark.parametrize("name", ["egemaps", "tiny"])
@pytest.mark.parametrize("rate, channels, suffix", [(8000, 2, "wav"), (44100, 1, "flac"), (48000, 6, "wav"),
                                                     (22050, 2, "ogg")])
def test_any_rate_and_channels(name, rate, channels, suffix, tiny, tmp_path):
    "The same vowel, sampled otherwise, has the same median pitch; every encoder takes it."
    path, enc = tmp_path/f"clip.{suffix}", encoder(name, tiny)
    soundfile.write(path, np.stack([voice(1.2, 150, rate=rate)]*channels, 1), rate)
    row = enc.encode(path)
    assert row.shape == (1, enc.dim) and np.isfinite(row).all()
    if name == "egemaps":
        pitch = row[0, enc.features.index("F0semitoneFrom27.5Hz_sma3nz_percentile50.0")]
        assert abs(pitch - 12*np.log2(150/27.5)) < 0.5


def bad_files(folder):
    "(file, a word of the message) for everything that is no speech."
    def wav(name, samples, **how):
        soundfile.write(folder/name, samples, RATE, **how)
        return folder/name
    nan = voice()
    nan[100] = np.nan
    (folder/"text.wav").write_text("hello")
    (folder/"zero.wav").write_bytes(b"")
    return [(folder/"none.wav", "none.wav"), (folder, "folder"), (folder/"text.wav", "text.wav"),
            (folder/"zero.wav", "empty"), (wav("nosamples.wav", np.zeros(0)), "no samples"),
            (wav("nan.wav", nan, subtype="FLOAT"), "NaN"), (wav("short.wav", voice(0.05)), "0.04 s of it are not silent"),
            (wav("silent.wav", np.zeros(RATE)), "silent"), (wav("tone.wav", .3*np.sin(np.arange(RATE)/10)), "like a tone"),
            (wav("noise.wav", .1*np.random.default_rng(0).standard_normal(RATE)), "no voice")]


@pytest.mark.parametrize("name", ["egemaps", "tiny"])
def test_bad_audio_names_the_file(name, tiny, tmp_path):
    enc = encoder(name, tiny)
    for path, word in bad_files(tmp_path):
        with pytest.raises(CmetError) as e: enc.encode([path])
        assert path.name in str(e.value) and word in str(e.value) and "\n" not in str(e.value), str(e.value)


def test_stored_features_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("asked the network"))
    place = tmp_path/"angry"/"emotion2vec+large_features"
    place.mkdir(parents=True)
    row = np.arange(1024, dtype=np.float32)
    np.save(place/"M003_1.npy", row)
    enc = speech_encoder("emotion2vec-large")
    rows = enc.encode([tmp_path/"angry"/"M003_1.wav", place/"M003_1.npy", str(place/"M003_1.npy")])
    assert np.array_equal(rows, [row]*3) and "model" not in vars(enc)
    soundfile.write(tmp_path/"angry"/"M003_1.wav", voice(), RATE)
    assert OpenSmile().encode(tmp_path/"angry"/"M003_1.wav").shape == (1, 88)  # has none of its own
    with pytest.raises(CmetError, match="88"): OpenSmile().encode(place/"M003_1.npy")


@pytest.mark.parametrize("array, word", [(np.ones(768, "f4"), "768"), (np.ones((50, 1024), "f4"), "50"),
                                         (np.full(1024, np.nan), "NaN"), (np.array(["a"]*1024), "1024"),
                                         (np.array([{}], object), "numbers")])
def test_bad_stored_features(array, word, tmp_path):
    place = tmp_path/"emotion2vec+large_features"
    place.mkdir()
    np.save(place/"x.npy", array, allow_pickle=True)
    for path in (tmp_path/"x.wav", place/"x.npy"):
        with pytest.raises(CmetError, match=word) as e: speech_encoder("emotion2vec-large").encode(path)
        assert "x.npy" in str(e.value)


def test_missing_weights_are_never_fetched(clips, monkeypatch):
    "Not even with a network: what a model is asked for, only this machine is searched."
    asked = []
    def hub(model, revision=None, local_files_only=False):
        asked.append((model, revision, local_files_only))
        raise OSError("not here")
    for library in HUBS.values(): monkeypatch.setattr(import_module(library), "snapshot_download", hub)
    large = speech_encoder("emotion2vec-large")
    for look in (lambda: large.encode(clips), lambda: large.version, lambda: large.folder):
        with pytest.raises(CmetError, match=r"cmet assets get emotion2vec_plus_large` \(1.9 GB, FunASR Model License"): look()
    assert large.card()["version"].startswith("unknown")
    for options, command in ((dict(hub="hf"), "hf download emotion2vec/emotion2vec_plus_base`, or put its config.yaml, model.pt"),
                             (dict(revision="v2"), "modelscope download --model iic/emotion2vec_plus_base --revision v2`, or name"),
                             (dict(model="me/mine"), "modelscope download --model me/mine`")):
        with pytest.raises(CmetError) as e: speech_encoder("emotion2vec-base", **options).encode(clips)
        assert command in e.value.remedy
    assert len(asked) == 7 and all(local for *_, local in asked)


@pytest.mark.parametrize("hub", ["ms", "hf"])
def test_no_connection_is_opened(hub, clips, monkeypatch):
    def online(*args, **kw): pytest.fail("a connection")
    for name in "connect", "connect_ex": monkeypatch.setattr(socket.socket, name, online)
    monkeypatch.setattr(socket, "getaddrinfo", online)
    with pytest.raises(CmetError, match="not on this machine"): speech_encoder("emotion2vec-seed", hub=hub).encode(clips)


@pytest.mark.parametrize("hub", ["ms", "hf"])
def test_what_a_hub_has_fetched_is_found(hub, tiny, clips, monkeypatch):
    have = {"me/mine": tiny}
    monkeypatch.setattr(import_module(HUBS[hub]), "snapshot_download",
                        lambda model, revision, local_files_only: str(have[model]))
    options = dict(hub=hub, revision="v1", device="cpu")
    assert speech_encoder("emotion2vec-seed", model="me/mine", **options).encode(clips[0]).shape == (1, 32)


def test_present_is_a_cheap_question(tmp_path):
    code = """import sys
from cmet.speech.emotion2vec import present_emotion2vec
print(present_emotion2vec("emotion2vec_plus_seed"), {"torch", "funasr", "modelscope", "huggingface_hub"} & set(sys.modules))"""
    def ask(): return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    folder = tmp_path/"cache"/"emotion2vec_plus_seed"
    folder.mkdir(parents=True)
    (folder/"config.yaml").touch()
    assert ask() == "False set()", "half a download is none"
    (folder/"model.pt").touch()
    assert ask() == "True set()"


def test_a_folder_in_the_cache_is_found(tmp_path, clips):
    tiny_emotion2vec(tmp_path/"cache"/"emotion2vec_plus_seed", dim=768)
    row = speech_encoder("emotion2vec-seed", device="cpu").encode(clips[0])
    assert row.shape == (1, 768) and np.isfinite(row).all()


def test_our_way_in_gives_funasrs_numbers(tiny, clips):
    "FunASR's own loading of the same folder is the reference."
    from funasr import AutoModel
    theirs = AutoModel(model=str(tiny), device="cpu", disable_update=True, disable_pbar=True)
    theirs = theirs.generate([str(p) for p in clips], granularity="utterance", extract_embedding=True)
    ours = encoder("tiny", tiny, cache=False).encode(clips)
    assert np.abs(ours - np.stack([r["feats"] for r in theirs])).max() < 1e-5


@pytest.mark.parametrize("prefix, wrap, suffix", [("", None, "pt"), ("d2v_model.", "model", "pt"),
                                                  ("module.", "state_dict", "pt"), ("", None, "safetensors")])
def test_weights_in_every_published_dress(prefix, wrap, suffix, tiny, clips, tmp_path):
    import torch
    from safetensors.torch import save_file
    folder = tiny_emotion2vec(tmp_path/"other", seed=1)
    state = {prefix + k: v for k, v in torch.load(tiny/"model.pt", weights_only=True).items()}
    if suffix == "safetensors": save_file(state, folder/"model.safetensors")
    else: torch.save({wrap: state} if wrap else state, folder/"model.pt")
    assert np.array_equal(encoder("tiny", folder).encode(clips), encoder("tiny", tiny).encode(clips))


class Program:
    "A pickle that makes a folder when it is opened."
    def __init__(self, path): self.path = str(path)
    def __reduce__(self): return (os.mkdir, (self.path,))


def test_hostile_weights_are_refused_and_nothing_runs(tiny, clips, tmp_path):
    import torch
    folder = tiny_emotion2vec(tmp_path/"model")
    for zipped in (True, False):
        torch.save({"model": Program(tmp_path/"ran")}, folder/"model.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(CmetError, match="plain weights"): encoder("tiny", folder).encode(clips)
        assert not (tmp_path/"ran").exists()
    torch.load(folder/"model.pt", weights_only=False)  # the trap is real: opened carelessly it does run
    assert (tmp_path/"ran").exists()


def test_an_old_torch_opens_no_pickle(tiny, tmp_path, monkeypatch):
    "CVE-2025-32434: until torch 2.5.1 `weights_only=True` could run a program."
    import torch
    from safetensors.torch import save_file
    from torch.torch_version import TorchVersion
    state = read_weights(tiny/"model.pt")
    save_file(state, tmp_path/"model.safetensors")
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.5.1+cpu"))
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(CmetError, match="2.6 or newer"): read_weights(tiny/"model.pt")
    assert read_weights(tmp_path/"model.safetensors").keys() == state.keys()


@pytest.mark.parametrize("key, value, word", [
    ("feature_encoder_spec", "__import__('os').mkdir('RAN')", "list of layers"),
    ("feature_encoder_spec", "[os.mkdir('RAN')]", "list of layers"),
    ("model", "Paraformer", "Paraformer"),
    ("model", "!!python/object/apply:os.mkdir ['RAN']", "ConstructorError"),
    ("embed_dim", "wide", "ValueError"), ("modalities", "{}", "KeyError")])
def test_hostile_configurations_are_refused(key, value, word, tmp_path, clips):
    folder, ran = tiny_emotion2vec(tmp_path/"model"), tmp_path/"ran"
    rows = (folder/"config.yaml").read_text().splitlines()
    i = next(i for i, row in enumerate(rows) if row.strip().startswith(key + ":"))
    indent, child = rows[i].index(key), i + 1
    while value == "{}" and len(rows[child]) - len(rows[child].lstrip()) > indent: del rows[child]
    rows[i] = f"{' '*indent}{key}: {value.replace('RAN', str(ran))}"
    (folder/"config.yaml").write_text("\n".join(rows))
    with pytest.raises(CmetError, match=word): encoder("tiny", folder).encode(clips)
    assert not ran.exists()


def test_remote_code_in_the_configuration_is_ignored(tmp_path, clips):
    folder = tiny_emotion2vec(tmp_path/"model")
    (folder/"evil.py").write_text(f"import os; os.mkdir({str(tmp_path/'ran')!r})")
    with open(folder/"config.yaml", "a") as f:
        f.write(f"trust_remote_code: true\nremote_code: {folder/'evil.py'}\n")
        f.write("vad_model: fsmn-vad\ninit_param: /etc/passwd\n")
    assert encoder("tiny", folder).encode(clips).shape == (4, 32) and not (tmp_path/"ran").exists()


@pytest.mark.parametrize("spec", ["[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"])
def test_the_published_spec_is_accepted(spec): assert check_spec(spec) == spec


def test_weights_of_another_network_and_wrong_hashes(tiny, tmp_path, clips):
    import torch
    folder = tiny_emotion2vec(tmp_path/"model")
    with pytest.raises(CmetError, match="sha256"): load_emotion2vec(folder, "cpu", digest="0"*64)
    state = torch.load(folder/"model.pt", weights_only=True)
    torch.save({k: v for k, v in state.items() if "blocks.1.attn.qkv" not in k}, folder/"model.pt")
    with pytest.raises(CmetError, match="does not fit"): encoder("tiny", folder).encode(clips)
    (folder/"model.pt").unlink()
    with pytest.raises(CmetError, match="no model.pt"): encoder("tiny", folder).encode(clips)
    (folder/"config.yaml").unlink()
    with pytest.raises(CmetError, match="config.yaml"): read_config(folder)


def test_loading_leaves_no_trace(tiny):
    import logging
    import random

    import torch
    def state(): return (random.getstate(), torch.get_rng_state().tolist(), logging.getLogger().handlers[:],
                         logging.getLogger().level, torch.get_num_threads(), sys.stdout, sys.stderr)
    before = state()
    load_emotion2vec(tiny, "cpu")
    assert state() == before


def test_names(tiny, tmp_path):
    assert speech_encoder("iic/emotion2vec_plus_large").name == "emotion2vec-large"
    assert speech_encoder("emotion2vec/emotion2vec_plus_base").dim == 768
    assert speech_encoder(tiny).dim == 32 and speech_encoder(str(tiny) + "/").name == "tiny"
    assert issubclass(type(speech_encoder("compare")), SpeechEncoder)
    with pytest.raises(CmetError, match="egemaps"): speech_encoder("eGeMAP")
    with pytest.raises(CmetError, match="no such model folder"): speech_encoder(tmp_path/"nowhere")
    with pytest.raises(CmetError, match="unknown hub"): speech_encoder("emotion2vec-seed", hub="x").folder  # noqa: B018


def test_importing_speech_is_light():
    heavy = "torch", "funasr", "opensmile", "pandas", "modelscope", "matplotlib"
    code = f"import sys, cmet.speech.encoders; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.real
def test_cmet_samples_have_features_for_every_name():
    root = find_data("cmet-samples")
    if root is None: pytest.skip("CMET_DATA has no cmet-samples")
    enc = speech_encoder("emotion2vec-large")
    wavs = sorted((root/"audios"/"MEAD").glob("*/*.wav"))
    stored = sorted((root/"audios"/"gemini").glob("*/emotion2vec+large_features/*.npy"))
    assert enc.encode(wavs).shape == (len(wavs), 1024) and enc.encode(stored).shape == (75, 1024)
    assert OpenSmile().encode(wavs[:3]).shape == (3, 88)
