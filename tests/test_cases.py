"""What people bring, through the command: each situation with others of its kind.

Of the kinds that are not here the members stand beside what they try: HDR, clocks and pauses in `test_media`; cuts, small faces,
covered mouths, turned faces and stills in `test_mesh`; values and kernels of runs in `test_experiment`; names in `test_bad_inputs`.
"""
import csv
import gzip
import io
import shutil
import zipfile
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from PIL import Image, features
from skimage.data import astronaut

from cmet.cli import main
from cmet.core import CmetError, builtin
from cmet.corpus.corpus import read_corpus
from cmet.edit.request import hearing, people_mapper, wanted_vector
from cmet.face.action_units import AUS
from cmet.io.media import open_video

RATE = 16000

VOICES = {e: sorted(builtin("speech").glob(f"F01_{e}_*.flac")) for e in ("neutral", "happy", "angry")}


def data_set(root, tables):
    "ann/neutral/rest.flac, and one happy clip for each table, which is the text of a CSV or an array."
    for name in ("neutral/rest", *(f"happy/{k}" for k in tables)):
        (root/"ann"/name).parent.mkdir(parents=True, exist_ok=True)
        emotion = name.partition("/")[0]
        shutil.copy(VOICES[emotion][0], root/"ann"/f"{name}.flac")
    (root/"ann"/"neutral"/"rest.csv").write_text(openface([(f, 0, {}) for f in range(1, 6)]))
    for name, table in tables.items():
        path = root/"ann"/"happy"/name
        if isinstance(table, str): path.with_suffix(".csv").write_text(table)
        else: np.save(path.with_suffix(".npy"), table)
    return root


def openface(rows, mean=.5):
    "A table of OpenFace; rows of (frame, face, {unit: text})."
    lines = [["frame", "face_id", "timestamp", "confidence", "success", *(f"{a}_r" for a in AUS)]]
    lines += [[f, who, f/30, .98, 1, *(odd.get(a, mean + who) for a in AUS)] for f, who, odd in rows]
    return "\n".join(", ".join(map(str, line)) for line in lines) + "\n"


def pyfeat(rows, **more):
    "A table of py-feat; rows of (frame, score, value)."
    names = ["frame", "FaceScore", *AUS[:-1], "AU43", *more]
    return "\n".join(",".join(map(str, line)) for line in [names, *([f, s, *[x]*17, *more.values()] for f, s, x in rows)]) + "\n"


def encoded(root, capsys, *options):
    "(corpus or None, {clip: reason})."
    code = main(["encode", str(root), "-o", str(root.parent/"made"), *options])
    told, path = capsys.readouterr(), root.parent/"made.rejected.csv"
    assert code == 0, told.err
    rows = csv.DictReader(path.read_text().splitlines() if path.exists() else [])
    return read_corpus(root.parent/"made", verify=True), {r["file"].split("/")[-1][:-5]: r["reason"] for r in rows}


def test_tables_of_several_faces(tmp_path, capsys):
    frames = range(1, 41)
    tables = {"two": openface([(f, who, {}) for f in frames for who in (0, 1)]),  # 40 frames of two people
              "turns": openface([(f, f > 20, {}) for f in frames]),  # first one, then the other
              "unsure": pyfeat([(f, s, x) for f in range(40) for s, x in [(.99, np.nan if f == 9 else .3), (.59, .9)][:1 + (f in (5, 6, 7))]]),
              "films": pyfeat([(f, .99, .3) for f in (0, 1)], input="a.mp4").rstrip() + "\n" + pyfeat([(0, .99, .3)], input="b.mp4").split("\n")[1] + "\n",
              "one": openface([(f, 0, {}) for f in frames])}
    made, lost = encoded(data_set(tmp_path/"d", tables), capsys)
    assert dict(zip(made.clips["sentence"], made.lengths)) == {"rest": 5, "unsure": 39, "one": 40}
    assert np.allclose(made.face_of(list(made.clips["sentence"]).index("unsure")), 1.5), "the sure rows"
    assert set(lost) == {"two", "turns", "films"}
    for name, said in ("two", "several faces a frame"), ("turns", "2 people"), ("films", "several recordings"): assert said in lost[name]


def test_one_bad_number(tmp_path, capsys):
    bad = {k: openface([(f, 0, {"AU12": text} if f == 2 else {}) for f in (1, 2, 3)])
           for k, text in dict(a="nan", b="-nan(ind)", c="#NUM!", d="inf", e="", f="1.#QNAN", g="1e99", h="4e13").items()}
    arrays = {k: np.array([[1.]*17, [x]*17, [2.]*17]) for k, x in (("i", np.inf), ("j", 1e30))}
    made, lost = encoded(data_set(tmp_path/"d", bad | arrays), capsys)
    assert not lost and dict(zip(made.clips["sentence"], made.lengths)) == {"rest": 5} | dict.fromkeys("abcdefghij", 2)


def test_tables_that_only_their_names_call_csv(tmp_path, capsys):
    "Excel's UTF-16, a packed one, a workbook; and the odd ones that are right: a mark at the start, ends of lines of three systems, decimal commas."
    table = openface([(f, 0, {}) for f in (1, 2, 3)])
    workbook = io.BytesIO()
    with zipfile.ZipFile(workbook, "w") as z: z.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")
    odd = {"utf16": table.encode("utf-16"), "packed": gzip.compress(table.encode()), "book": workbook.getvalue()}
    good = {"mark": b"\xef\xbb\xbf" + table.encode(), "windows": table.replace("\n", "\r\n").encode(), "mac": table.replace("\n", "\r").encode(),
            "comma": table.replace(", ", ";").replace(".", ",").encode()}
    root = data_set(tmp_path/"d", dict.fromkeys(odd | good, table))
    for name, raw in (odd | good).items(): (root/"ann"/"happy"/f"{name}.csv").write_bytes(raw)
    made, lost = encoded(root, capsys)
    assert dict(zip(made.clips["sentence"], made.lengths)) == {"rest": 5} | dict.fromkeys(good, 3) and np.allclose(made.face, .5)
    assert set(lost) == set(odd) and all("it is not plain text, as a CSV in UTF-8 is" in why for why in lost.values())


@pytest.mark.parametrize("files, layout, wanted", [
    (["Audio_Speech_Actors_01-24/Actor_01/03-01-01-01-01-01-01.flac", "Audio_Speech_Actors_01-24/Actor_02/03-01-02-01-01-01-02.flac"],
     "ravdess", (["Actor_01", "Actor_02"], ["calm", "neutral"])),
    (["MEAD/M003/audio/neutral/level_1/001.wav", "MEAD/M003/audio/angry/level_3/001.wav"], "mead", (["M003"], ["angry", "neutral"])),
    (["CREMA-D/AudioWAV/1001_DFA_NEU_XX.wav", "CREMA-D/AudioWAV/1002_DFA_ANG_XX.wav"], "crema-d", (["1001", "1002"], ["angry", "neutral"]))])
def test_data_sets_as_they_unpack(tmp_path, capsys, files, layout, wanted):
    for k, name in enumerate(files):
        path = tmp_path/"d"/name
        path.parent.mkdir(parents=True, exist_ok=True)
        wav, rate = soundfile.read(VOICES["angry" if k else "neutral"][k])
        soundfile.write(path, wav, rate)
    assert main(["audit", str(tmp_path/"d")]) == 0 and capsys.readouterr().out.startswith(f"{layout}: 2 clips")
    made, lost = encoded(tmp_path/"d", capsys)
    assert (made.speakers, made.emotions) == wanted and not lost
    shutil.copytree(tmp_path/"d"/files[0].split("/")[0], tmp_path/"d", dirs_exist_ok=True)  # everything twice
    assert main(["audit", str(tmp_path/"d")]) == 0 and "doubled: 2" in capsys.readouterr().out


@pytest.mark.parametrize("stray", ["03a01Fa.wav", "Actor_01/03-01-06-02-02-01-01.wav"])
def test_one_file_named_like_a_data_sets_makes_none_of_ones_own(tmp_path, capsys, stray):
    "In folders of one's own the others are read, and the stray is told; loose recordings are asked about."
    for kind in "own", "loose":
        for k in range(12):
            emotion = "happy" if k % 2 else "neutral"
            name = stray if not k else f"ann/{emotion}/{k}.flac" if kind == "own" else f"me {k}.flac"
            path = tmp_path/kind/name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(VOICES[emotion][k//2], path)
    assert main(["encode", str(tmp_path/"own"), "-o", str(tmp_path/"made")]) == 0
    made = read_corpus(tmp_path/"made")
    assert (made.meta["layout"], made.speakers, made.emotions, len(made)) == ("folder", ["ann"], ["happy", "neutral"], 11)
    assert f"1 file was not recognised, first '{stray}'" in capsys.readouterr().err
    assert main(["encode", str(tmp_path/"loose"), "-o", str(tmp_path/"c")]) == 2 and not (tmp_path/"c").exists()
    assert "fits 1 of 12; not me 1.flac, me 10.flac, me 11.flac …): say which with --layout, or give a folder of one data set only" in capsys.readouterr().err


@pytest.mark.parametrize("linked", ["ann", "ann/happy", "ann/happy/1.flac", ""])
def test_linked_folders(tmp_path, capsys, linked):
    "A speaker, an emotion, a file, or the whole is a link to another disk."
    for e in ("happy", "neutral"):
        (tmp_path/"d"/"ann"/e).mkdir(parents=True)
        shutil.copy(VOICES[e][0], tmp_path/"d"/"ann"/e/"1.flac")
    (tmp_path/"disk").mkdir()
    shutil.move(tmp_path/"d"/linked, tmp_path/"disk"/"it")
    (tmp_path/"d"/linked).symlink_to("../"*linked.count("/") + ("../disk/it" if linked else "disk/it"))
    made, lost = encoded(tmp_path/"d", capsys)
    assert list(made.clips["emotion"]) == ["happy", "neutral"] and not lost


@pytest.fixture(scope="module")
def moved():
    "Function: a recording -> how a face at rest moves with it."
    mapper, voices = people_mapper("whisper")
    ear = hearing("whisper", mapper, voices)
    return lambda path: mapper.predict(wanted_vector(mapper, voices, ear, [path]), np.zeros((1, 17), np.float32))[0]


@pytest.mark.parametrize("before, after, level", [(1, 1, 0), (3, 5, 0), (0, 8, 0), (1, 2, 1e-4)])
def test_pauses_around_speech_change_nothing(tmp_path, moved, before, after, level):
    "Digital silence, or a quiet room, at the ends."
    wav, rate = soundfile.read(VOICES["angry"][0])
    quiet = lambda s: level*np.random.default_rng(0).standard_normal(int(s*rate))
    soundfile.write(tmp_path/"a.wav", np.concatenate([quiet(before), wav, quiet(after)]), rate)
    a, b = moved(tmp_path/"a.wav"), moved(VOICES["angry"][0])
    assert a@b/np.linalg.norm(a)/np.linalg.norm(b) > .97 and abs(np.linalg.norm(a)/np.linalg.norm(b) - 1) < .1


T = np.arange(3*RATE)/RATE
NO_SPEECH = {"white noise": .3*np.random.default_rng(0).uniform(-1, 1, len(T)),
             "a fan": .1*np.convolve(np.random.default_rng(1).standard_normal(len(T)), np.ones(40)/6, "same"),
             "mains hum": sum(.2/k*np.sin(2*np.pi*50*k*T) for k in (1, 2, 3, 5)),
             "a tone": .3*np.sin(2*np.pi*440*T), "clicks": np.where(np.arange(len(T)) % 4000 == 0, .9, 0)}


@pytest.mark.parametrize("name", NO_SPEECH)
def test_noise_is_no_speech(tmp_path, capsys, name):
    soundfile.write(tmp_path/"n.wav", NO_SPEECH[name], RATE)
    assert main(["edit", str(builtin("portrait.mp4")), "--to", str(tmp_path/"n.wav"), "-o", str(tmp_path/"o.mp4")]) == 2
    assert "'" + str(tmp_path/"n.wav") + "' is not speech" in capsys.readouterr().err and not (tmp_path/"o.mp4").exists()


FACE = astronaut()[:256, 96:352]


def film(path, pixel=1, **options):
    "Ten frames of a face, written as other programs do."
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        if pixel != 1: stream.codec_context.sample_aspect_ratio = Fraction(pixel)
        for _ in range(10): out.mux(stream.encode(av.VideoFrame.from_ndarray(FACE)))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("pixel", ["1", "4/3", "16/11", "8/9", "2"])
def test_pixels_that_are_not_square_keep_their_shape(tmp_path, capsys, pixel):
    "PAL, anamorphic film, NTSC: the numbers of the picture stay, and what a player makes of them."
    source = film(tmp_path/"a.mp4", pixel)
    assert main(["edit", str(source), "--vector", "happy", "-o", str(tmp_path/"o.mp4")]) == 0, capsys.readouterr().err
    made = open_video(tmp_path/"o.mp4")
    assert open_video(source).pixel == made.pixel == Fraction(pixel) and made.size == (256, 256)
    with av.open(str(tmp_path/"o.mp4")) as f: assert (f.streams.video[0].sample_aspect_ratio or 1) == Fraction(pixel)


def test_an_interlaced_film_is_named(tmp_path):
    with pytest.warns(UserWarning, match="a.mp4' is interlaced"): open_video(film(tmp_path/"a.mp4", flags="+ildct+ilme"))


def saved(path, picture, **more):
    picture.save(path, **more)
    return open_video(path).still


def test_pictures_are_shown_as_a_viewer_shows_them(tmp_path):
    photo = Image.fromarray(FACE)
    grey = np.asarray(photo.convert("L"))
    for path in tmp_path/"a.png", tmp_path/"a.tif":
        deep = saved(path, Image.fromarray(grey.astype(np.uint16)*257))  # 16 bits
        assert (deep == grey[..., None]).all()
    half = photo.copy()
    half.putalpha(Image.fromarray(np.where(np.arange(256) < 128, 255, 0).astype(np.uint8)[None].repeat(256, 0)))
    for ending, loss in ((".png", 0), (".webp", 3), (".tif", 0)):
        shown = saved(tmp_path/f"h{ending}", half).astype(int)
        assert (shown[:, 130:] > 252).all() and np.abs(shown[:, :120] - FACE[:, :120]).mean() <= loss
    pal = saved(tmp_path/"p.png", photo.quantize(64))
    assert np.abs(pal.astype(int) - FACE).mean() < 12
    turned = Image.Exif()
    turned[0x112] = 6  # held on its side
    assert np.abs(saved(tmp_path/"t.jpg", photo.rotate(90), exif=turned, quality=98).astype(int) - FACE).mean() < 3
    if features.check("avif"): assert np.abs(saved(tmp_path/"a.avif", photo, quality=95).astype(int) - FACE).mean() < 4


@pytest.mark.parametrize("ending", [".webp", ".png", ".tif"])
def test_pictures_that_move_are_named(tmp_path, ending):
    path = tmp_path/f"a{ending}"
    Image.fromarray(FACE).save(path, save_all=True, append_images=[Image.fromarray(FACE[::-1])])
    with pytest.warns(UserWarning, match=f"a{ending}' holds 2 pictures, and the first is taken"): assert open_video(path).n_frames == 75


def test_heic_is_called_by_its_name(tmp_path):
    (tmp_path/"a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x10meta" + bytes(8) + b"\0\0\0\x10mdat" + bytes(8))
    with pytest.raises(CmetError, match="a.heic' cannot be read as an image: convert it to png or jpg"): open_video(tmp_path/"a.heic")
