"""Video and sound in and out: what a notebook cell is too short for. All input is synthetic."""
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import soundfile
from skimage.data import astronaut

from cmet.core import CmetError
from cmet.io.files import atomic, check_file
from cmet.io.media import open_video, read_audio, read_video, write_audio, write_video

av = pytest.importorskip("av")
FACE = astronaut()[:256, 96:352]
LUMA = np.float32([.2126, .7152, .0722])


def psnr(a, b): return 10*np.log10(255**2/np.mean((np.asarray(a, float) - b)**2))


def slide(n=10, h=64, w=64): return np.stack([astronaut()[i:i + h, 100 + i:100 + i + w] for i in range(n)])


def tone(path, seconds=1., rate=16000, channels=1, click=None):
    wav = .05*np.sin(2*np.pi*300*np.arange(int(seconds*rate))/rate)
    if click is not None: wav[int(click*rate):int(click*rate) + rate//400] = .9
    soundfile.write(path, np.stack([wav]*channels, 1), rate)
    return path


def click_time(path): return np.abs(read_audio(path, 16000)).argmax()/16000


def packets(path, kind):
    with av.open(str(path)) as c: return [bytes(p) for p in c.demux(c.streams.get({kind: 0})[0]) if p.size]


def raw_mp4(path, frames, ticks, rate=25, sound=None):
    "An mp4 whose picture i is due at `ticks[i]` milliseconds: what cameras write and `write_video` does not."
    with av.open(str(path), "w") as out:
        v = out.add_stream("libx264", rate=rate, options={"crf": "1"})
        v.width, v.height, v.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        v.codec_context.time_base = Fraction(1, 1000)
        a = out.add_stream("aac", rate=16000) if sound is not None else None
        if a is not None: a.layout = "mono"
        for image, t in zip(frames, ticks):
            f = av.VideoFrame.from_ndarray(image, format="rgb24")
            f.pts, f.time_base = t, Fraction(1, 1000)
            out.mux(v.encode(f))
        out.mux(v.encode(None))
        if a is not None:
            for at in range(0, len(sound) - 1024, 1024):
                f = av.AudioFrame.from_ndarray(sound[None, at:at + 1024].astype(np.float32), "fltp", "mono")
                f.sample_rate, f.pts, f.time_base = 16000, at, Fraction(1, 16000)
                out.mux(a.encode(f))
            out.mux(a.encode(None))
    return path


@pytest.mark.parametrize("h,w", [(64, 64), (63, 64), (64, 65), (31, 33), (180, 320), (2, 2)])
@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001)])
def test_size_rate_and_count_come_back(tmp_path, h, w, fps):
    clip = slide(7, h, w)
    back, rate = read_video(write_video(tmp_path/"a.mp4", clip, fps))
    assert back.shape == clip.shape and rate == fps


@pytest.mark.parametrize("fps", [1, 12.5, 23.976, Fraction(24000, 1001), 50, 60, 120])
def test_rates(tmp_path, fps):
    source = open_video(write_video(tmp_path/"a.mp4", slide(9), fps))
    assert source.fps == Fraction(fps).limit_denominator(100000) and source.n_frames == 9


def test_colours_are_kept(tmp_path):
    clip = np.stack([FACE]*4)
    back, _ = read_video(write_video(tmp_path/"a.mp4", clip, 25))
    assert psnr(clip@LUMA, back@LUMA) > 42 and psnr(clip, back) > 37
    exact = hasattr(__import__("av.video.reformatter", fromlist=["x"]).Interpolation, "ACCURATE_RND")
    assert np.abs(back.mean((0, 1, 2)) - clip.mean((0, 1, 2))).max() < (.5 if exact else 2)
    for colour in ([255, 0, 0], [0, 255, 0], [0, 0, 255], [255]*3, [0]*3, [200, 150, 120]):
        flat, _ = read_video(write_video(tmp_path/"f.mp4", np.full((2, 32, 32, 3), colour, np.uint8), 25))
        assert np.abs(flat.astype(int) - colour).max() <= 4, colour


def test_file_names_its_colour_matrix(tmp_path):
    with av.open(str(write_video(tmp_path/"a.mp4", slide(3), 25))) as c:
        context = c.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.pix_fmt) == (1, 1, "yuv420p")


def test_same_input_same_bytes(tmp_path):
    sound = tone(tmp_path/"s.wav")
    a, b = (write_video(tmp_path/n, slide(20), 25, sound=sound).read_bytes() for n in ("a.mp4", "b.mp4"))
    assert a == b


RATES = [(8000, 2), (16000, 1), (44100, 2), (48000, 6), (96000, 1), (192000, 2), (11111, 1)]


@pytest.mark.parametrize("rate,channels", RATES)
def test_sound_of_any_rate_is_kept_whole(tmp_path, rate, channels):
    wav = tone(tmp_path/"s.wav", 1.5, rate, channels, click=1.)
    out = write_video(tmp_path/"a.mp4", slide(10), 25, sound=wav)
    assert abs(click_time(out) - 1.) < .005
    assert 1.5 <= len(read_audio(out))/16000 < 1.65


HELD = [("aac", ".mp4"), ("libmp3lame", ".mp3"), ("alac", ".m4a"), ("libopus", ".mkv"), ("aac", ".aac"), ("ac3", ".mkv")]


@pytest.mark.parametrize("codec,suffix", HELD)
def test_sound_that_mp4_holds_is_copied_bit_for_bit(tmp_path, codec, suffix):
    wav = tone(tmp_path/"s.wav", 1., 48000, 2, click=.5)
    with av.open(str(wav)) as i, av.open(str(tmp_path/f"x{suffix}"), "w") as o:
        s = o.add_stream(codec, rate=48000); s.layout = "stereo"
        change = av.AudioResampler(s.format, "stereo", 48000, frame_size=s.codec_context.frame_size or 960)
        for f in [*i.decode(audio=0), None]:
            for g in change.resample(f): o.mux(s.encode(g))
        o.mux(s.encode(None))
    out = write_video(tmp_path/"a.mp4", slide(10), 25, sound=tmp_path/f"x{suffix}")
    old, new = packets(tmp_path/f"x{suffix}", "audio"), packets(out, "audio")
    if suffix == ".aac": old = [p[7:] if p[0] == 0xff else p for p in old]  # mp4 does without the ADTS header
    assert new == old and abs(click_time(out) - click_time(tmp_path/f"x{suffix}")) < .002


@pytest.mark.parametrize("first", [0, 200, 480])
def test_sound_stays_in_step_when_picture_begins_late(tmp_path, first):
    frames = np.full((30, 64, 64, 3), 40, np.uint8)
    frames[15] = 255  # a flash, and a click at the same moment
    wav = np.zeros(48000, np.float32); at = first/1000 + 15/25
    wav[int(at*16000):int(at*16000) + 40] = .9
    raw_mp4(tmp_path/"late.mp4", frames, [first + 40*i for i in range(30)], sound=wav)
    source = open_video(tmp_path/"late.mp4")
    out = write_video(tmp_path/"a.mp4", source.frames(), source.fps, sound=source.path)
    with av.open(str(out)) as c:
        flash = next(f.time for f in c.decode(video=0) if f.to_ndarray(format="gray").mean() > 128)
    with av.open(str(out)) as c:
        parts = [(f.time, f.to_ndarray()[0]) for f in c.decode(audio=0)]
    loud = max(parts, key=lambda p: np.abs(p[1]).max())
    heard = loud[0] + np.abs(loud[1]).argmax()/16000
    assert abs(heard - flash) < .005, (heard, flash)


def test_picture_and_sound_lie_interleaved(tmp_path):
    out = write_video(tmp_path/"a.mp4", slide(100), 25, sound=tone(tmp_path/"s.wav", 4))
    with av.open(str(out)) as c: order = [(p.pos, p.stream.type, float(p.dts*p.time_base)) for p in c.demux() if p.size]
    order.sort()
    last = {"video": 0., "audio": 0.}
    for _, kind, time in order:
        last[kind] = time
        assert abs(last["video"] - last["audio"]) < 1.5


def test_variable_rate_is_put_on_ticks(tmp_path):
    frames = np.repeat(np.arange(20, 220, 20, dtype=np.uint8), 64*64*3).reshape(10, 64, 64, 3)
    ticks = [0, 40, 80, 120, 160, 360, 400, 440, 480, 520]  # five frames of 25 a second missing after the fifth
    raw_mp4(tmp_path/"v.mp4", frames, ticks)
    source = open_video(tmp_path/"v.mp4")
    got = np.array([f.mean() for f in source.frames()])
    assert abs(len(got)/float(source.fps) - .56) < .09, (len(got), source.fps)
    shown = np.array([np.interp(i/float(source.fps)*1000, ticks, range(10)) for i in range(len(got))])
    assert np.abs(got/20 - 1 - np.floor(shown + .5)).max() <= 1.2 and (np.diff(got) > -3).all()


@pytest.mark.parametrize("degrees,matrix", [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))])
def test_phone_video_comes_upright(tmp_path, degrees, matrix):
    image = np.full((64, 96, 3), 128, np.uint8); image[:32, :48] = 250  # a bright corner, top left
    write_video(tmp_path/"a.mp4", np.stack([image]*3), 25)
    data = (tmp_path/"a.mp4").read_bytes()
    at = data.index(b"tkhd") + 4 + 40
    one = lambda x: int(x*65536).to_bytes(4, "big", signed=True)
    a, b, c, d = map(one, matrix)
    (tmp_path/"r.mp4").write_bytes(data[:at] + a + b + bytes(4) + c + d + data[at + 20:])
    frames, _ = read_video(tmp_path/"r.mp4")
    want = np.rot90(image, -degrees//90)  # the matrix asks the player to turn clockwise
    assert frames.shape[1:] == want.shape and open_video(tmp_path/"r.mp4").size == want.shape[1::-1]
    assert np.abs(frames[0].astype(int) - want).mean() < 4


def test_frames_can_be_read_twice_and_left_early(tmp_path):
    source = open_video(write_video(tmp_path/"a.mp4", slide(12), 25))
    early = source.frames(); next(early); early.close()
    assert (np.stack(list(source.frames())) == np.stack(list(source.frames()))).all()


def test_long_video_streams(tmp_path):
    n = 400
    source = open_video(write_video(tmp_path/"a.mp4", (np.roll(FACE, i, 1) for i in range(n)), 25))
    tracemalloc.start()
    assert sum(1 for _ in source.frames()) == n
    write_video(tmp_path/"b.mp4", source.frames(), source.fps, sound=source.path)
    peak = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
    assert peak < 12*FACE.nbytes, f"{peak/FACE.nbytes:.0f} frames in memory"


def test_stills(tmp_path):
    from PIL import Image
    picture = Image.fromarray(FACE)
    exif = Image.Exif(); exif[0x0112] = 6  # stored on its side: turn right to see it
    picture.rotate(90, expand=True).save(tmp_path/"side.png", exif=exif)
    assert (next(open_video(tmp_path/"side.png").frames()) == FACE).all()
    for mode, name in (("L", "g.png"), ("RGBA", "a.png"), ("P", "p.png"), ("CMYK", "c.jpg")):
        picture.convert(mode).save(tmp_path/name)
        source = open_video(tmp_path/name, seconds=.2, fps=30)
        assert [f.shape for f in source.frames()] == [(256, 256, 3)]*6 and source.fps == 30
    for name in ("a.png", "a.mp4"):  # one picture may serve many frames, and a frame several readers
        if name == "a.mp4": write_video(tmp_path/name, [FACE]*2, 25)
        for frame in open_video(tmp_path/name).frames():
            with pytest.raises(ValueError, match="read-only"): frame[:] = 0
            mine = frame.copy()
            mine[:] = 0
            assert frame.any()


def test_nothing_is_left_behind_and_nothing_is_lost(tmp_path):
    (tmp_path/"a.mp4").write_bytes(b"precious")
    def breaks():
        yield from slide(40)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): write_video(tmp_path/"a.mp4", breaks(), 25)
    with pytest.raises(CmetError): write_video(tmp_path/"a.mp4", [FACE, FACE[:100]], 25)
    with pytest.raises(CmetError): write_video(tmp_path/"a.mp4", [], 25)
    with pytest.raises(CmetError): write_video(tmp_path/"a.mp4", slide(3), 25, sound=tmp_path/"none.wav")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"] and (tmp_path/"a.mp4").read_bytes() == b"precious"


@pytest.mark.parametrize("target", ["none/a.mp4", "file/a.mp4", "/proc/a.mp4", ".", "a.avi", "a", "x"*300 + ".mp4"])
def test_bad_targets(tmp_path, target):
    (tmp_path/"file").write_text("x")
    with pytest.raises(CmetError): write_video(tmp_path/target, slide(3), 25)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_full_disk():
    with pytest.raises(CmetError, match="space"):
        with atomic("/tmp/cmet-full-disk"):
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize("part", [8, 40, .1, .5, .9, .999])
def test_cut_mp4(tmp_path, part):
    data = write_video(tmp_path/"a.mp4", slide(50, 128, 128), 25).read_bytes()
    (tmp_path/"c.mp4").write_bytes(data[:int(part*len(data)) if part < 1 else part])
    with pytest.raises(CmetError, match="cut short"): read_video(tmp_path/"c.mp4")


def test_cut_after_the_index(tmp_path):
    "Where the index comes first, half a file opens and plays; that it is half must be said."
    write_video(tmp_path/"a.mp4", slide(50, 128, 128), 25)
    first = {"movflags": "faststart"}
    with av.open(str(tmp_path/"a.mp4")) as i, av.open(str(tmp_path/"f.mp4"), "w", options=first) as o:
        s = o.add_stream_from_template(i.streams.video[0])
        for p in i.demux(video=0):
            if p.dts is not None: p.stream = s; o.mux(p)
    data = (tmp_path/"f.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    (tmp_path/"c.mp4").write_bytes(data[:-len(data)//3])
    assert check_file(tmp_path/"f.mp4")
    with pytest.raises(CmetError, match="cut short"): open_video(tmp_path/"c.mp4")


@pytest.mark.parametrize("text, remedy", [("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "run `git lfs pull`"),
                                          ("/annex/objects/MD5E-s12345--0cc175b9.wav\n", "run `git annex get`")])
def test_pointers_of_repositories_are_named(tmp_path, text, remedy):
    from cmet.corpus.corpus import read_corpus
    from cmet.corpus.face_tables import read_face_table
    from cmet.io.tensors import read_weights
    (tmp_path/"c").mkdir()
    for name, read in (("a.wav", read_audio), ("a.mp4", read_video), ("a.npy", read_face_table), ("a.csv", read_face_table),
                       ("a.safetensors", read_weights), ("a.pt", read_weights), ("c/meta.json", lambda p: read_corpus(p.parent))):
        (tmp_path/name).write_text(text)
        with pytest.raises(CmetError) as e: read(tmp_path/name)
        assert remedy in str(e.value) and name in str(e.value), name



def test_damaged_sound_is_named_as_sound(tmp_path):
    with av.open(str(tone(tmp_path/"s.wav"))) as i, av.open(str(tmp_path/"d.mka"), "w") as o:
        s = o.add_stream("flac", rate=16000); s.layout = "mono"
        good = [p for f in [*i.decode(audio=0), None] for p in s.encode(f)]
        for k, p in enumerate(good):
            q = av.Packet(bytes(p.size)) if k == 1 else p
            q.pts, q.dts, q.time_base, q.stream = p.pts, p.dts, p.time_base, s
            o.mux(q)
    with pytest.raises(CmetError, match="sound of .* is damaged"):
        write_video(tmp_path/"a.mp4", slide(9), 25, sound=tmp_path/"d.mka")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.mka", "s.wav"]


@pytest.mark.parametrize("gap, fine", [(9_900, True), (3_600_000, False)])
def test_one_wrong_time_does_not_repeat_a_frame_for_hours(tmp_path, gap, fine):
    raw_mp4(tmp_path/"v.mp4", slide(6), [0, 40, 80, gap, gap + 40, gap + 80])
    source = open_video(tmp_path/"v.mp4")
    if fine: assert abs(sum(1 for _ in source.frames())/float(source.fps) - 10) < 2
    else:
        with pytest.raises(CmetError, match="v.mp4' has no frame for 3600 s"): sum(1 for _ in source.frames())


def test_a_photograph_that_is_too_large(tmp_path, monkeypatch):
    from PIL import Image
    plain = tmp_path/"p.png"
    Image.fromarray(FACE).save(plain)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(CmetError) as e: open_video(plain)
    assert "p.png" in e.value.cause and e.value.remedy == "scale it down"


def test_music_with_a_cover_is_not_a_video(tmp_path):
    with av.open(str(tone(tmp_path/"s.wav"))) as i, av.open(str(tmp_path/"m.m4a"), "w") as o:
        s = o.add_stream("aac", rate=16000); s.layout = "mono"
        for f in i.decode(audio=0): o.mux(s.encode(f))
        o.mux(s.encode(None))
    with pytest.raises(CmetError, match="no picture"): open_video(tmp_path/"m.m4a")
    assert len(read_audio(tmp_path/"m.m4a")) >= 16000


def test_a_gif_of_one_picture_is_a_still(tmp_path):
    "It became a video of a hundredth of a second."
    from PIL import Image
    one, two = (Image.new("RGB", (40, 30), c) for c in ("red", "blue"))
    one.save(tmp_path/"one.gif")
    one.save(tmp_path/"two.gif", save_all=True, append_images=[two], duration=100)
    still, film = open_video(tmp_path/"one.gif"), open_video(tmp_path/"two.gif")
    assert (still.n_frames, still.fps, still.still.shape) == (75, 25, (30, 40, 3)) and len(list(still.frames())) == 75
    assert film.still is None and film.n_frames == 2


JUNK = {"t.png": b"text", "t.mp4": b"text"*500, "t.mov": bytes(5000), "t.gif": b"GIF89a"}


@pytest.mark.parametrize("name,data", JUNK.items())
def test_not_a_picture(tmp_path, name, data):
    (tmp_path/name).write_bytes(data)
    with pytest.raises(CmetError): open_video(tmp_path/name)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".aiff"])
@pytest.mark.parametrize("rate,channels", [(8000, 2), (44100, 1)])
def test_any_speech_file(tmp_path, suffix, rate, channels):
    path = tmp_path/f"s{suffix}"
    soundfile.write(path, np.stack([.3*np.sin(2*np.pi*500*np.arange(rate)/rate)]*channels, 1), rate)
    wav = read_audio(path, 16000)
    spectrum = np.abs(np.fft.rfft(wav[2000:14000]))
    assert wav.dtype == np.float32 and wav.ndim == 1 and 16000 <= len(wav) < 18500
    assert abs(spectrum.argmax()*16000/12000 - 500) < 3 and abs(np.abs(wav[3000:13000]).max() - .3) < .03


def test_write_audio_refuses(tmp_path):
    with pytest.raises(CmetError): write_audio(tmp_path/"a.nope", np.zeros(9), 16000)
    with pytest.raises(CmetError): write_audio(tmp_path/"none"/"a.wav", np.zeros(9), 16000)
    assert not list(tmp_path.iterdir())


def rgb(code): return np.full((64, 64, 3), code, np.uint8)


def shades(n): return np.stack([rgb(40 + 3*i) for i in range(n)])


def twice(path, seconds=1, sound=None, codec="mpeg2video"):
    "Two recordings joined byte by byte: the clock starts again. Each begins with a flash and a click."
    one = path.with_name("one.ts")
    with av.open(str(one), "w", format="mpegts") as out:
        v = out.add_stream(codec, rate=25)
        v.width = v.height = 64; v.pix_fmt = "yuv420p"
        a = out.add_stream(sound, rate=48000, layout="stereo") if sound else None
        for i in range(25*seconds):
            f = av.VideoFrame.from_ndarray(rgb(255 if i == 10 else 16), format="rgb24")
            f.pts, f.time_base = i, Fraction(1, 25)
            out.mux(v.encode(f))
        out.mux(v.encode(None))
        size = 0 if a is None else a.codec_context.frame_size or 1024
        for at in range(0, 48000*seconds, size or 48000) if a else ():
            wav = np.zeros((2, size), np.float32)
            if at <= 19200 < at + size: wav[:, 19200 - at:19200 - at + 99] = .9
            f = av.AudioFrame.from_ndarray(wav, "fltp", "stereo")
            f.sample_rate, f.pts, f.time_base = 48000, at, Fraction(1, 48000)
            out.mux(a.encode(f))
        if a: out.mux(a.encode(None))
    path.write_bytes(one.read_bytes()*2)
    return path


@pytest.mark.parametrize("codec,sound", [("mpeg2video", None), ("libx264", "aac"), ("mpeg2video", "ac3")])
def test_a_clock_that_starts_again(tmp_path, codec, sound):
    "All frames, and each flash with its click."
    source = open_video(twice(tmp_path/"t.ts", sound=sound, codec=codec))
    light = np.array([f.mean() for f in source.frames()])
    assert len(light) == 50 == source.n_frames and np.flatnonzero(light > 128).tolist() == [10, 35]
    out = write_video(tmp_path/"o.mp4", source.frames(), source.fps, sound=source.path)
    assert open_video(out).n_frames == 50
    if sound:
        wav = np.abs(read_audio(out, 16000))
        for flash in (10, 35):
            at = int(flash/25*16000)
            near = wav[at - 3000:at + 3000]
            assert near.max() > .3 and abs(near.argmax() - 3000) < 800, near.argmax() - 3000  # 50 ms


def test_a_pause_does_not_lower_the_rate(tmp_path):
    ticks = [40*i for i in range(40)] + [40*i for i in range(116, 156)]
    source = open_video(raw_mp4(tmp_path/"v.mp4", shades(70)[np.arange(80) % 70], ticks))
    got = [round(f.mean()) for f in source.frames()]
    assert source.fps == 25 and len(got) == 156 == source.n_frames
    assert sum(a != b for a, b in zip(got, got[1:])) == 79, "all pictures of the talk are there"
    assert len(set(got[39:116])) == 1


@pytest.mark.parametrize("gaps,rate", [([40]*30 + [20]*30, 50), ([33, 34, 33]*20, 30), ([67]*20 + [33]*30, 30),
                                       ([40, 1, 79]*15, 25), ([100]*12, 10)])
def test_no_frame_is_lost_whatever_the_rate(tmp_path, gaps, rate):
    "25 then 50 a second; milliseconds of 30; a phone in the dark, then in the light; pairs; a slow camera."
    stamps = np.cumsum([0, *gaps]).tolist()
    source = open_video(raw_mp4(tmp_path/"v.mp4", shades(70)[:len(stamps)], stamps, rate=1000))
    got = [round(f.mean()) for f in source.frames()]
    assert len(set(got)) == len(stamps) and abs(float(source.fps) - rate) < .1*rate
    assert abs(len(got)/float(source.fps) - stamps[-1]/1000) < .15


def hdr(path, image, curve, primaries):
    "A film of one picture, stored as phones store it: 10 bits, another curve, wider colours, white at 203 cd/m²."
    from cmet.io.colour import HLG, PQ, TO_709
    light = (image/255.)**2.4
    if primaries in TO_709: light = (light @ np.linalg.inv(TO_709[primaries]).T).clip(0)
    if curve == PQ:
        y = (light*203/10000)**.1593017578125
        v = ((.8359375 + 18.8515625*y)/(1 + 18.6875*y))**78.84375
    elif curve == HLG:
        shown = light*203/1000
        luma = np.maximum(shown @ [.2627, .678, .0593], 1e-9)[..., None]
        e = shown*luma**(1/1.2 - 1)
        v = np.where(e <= 1/12, np.sqrt(3*e), .17883277*np.log(np.maximum(12*e - .28466892, 1e-9)) + .55991073)
    else: v = light**(1/2.4)
    kr, kb = (.2627, .0593) if primaries == 9 else (.2126, .0722)
    y = v @ [kr, 1 - kr - kb, kb]
    planes = [y*876 + 64, (v[..., 2] - y)/(2 - 2*kb)*896 + 512, (v[..., 0] - y)/(2 - 2*kr)*896 + 512]
    with av.open(str(path), "w") as out:
        s = out.add_stream("ffv1", rate=25)
        s.height, s.width, s.pix_fmt = *image.shape[:2], "yuv444p10le"
        c = s.codec_context
        c.color_trc, c.color_primaries, c.colorspace, c.color_range = curve, primaries, 9 if primaries == 9 else 1, 1
        for i in range(3):
            f = av.VideoFrame(*image.shape[1::-1], "yuv444p10le")
            for plane, values in zip(f.planes, planes):
                row = np.zeros((plane.height, plane.line_size//2), np.uint16)
                row[:, :image.shape[1]] = values.round().clip(0, 1023)
                plane.update(row.tobytes())
            f.pts, f.time_base = i, Fraction(1, 25)
            f.color_trc, f.color_primaries, f.colorspace, f.color_range = curve, primaries, 9 if primaries == 9 else 1, 1
            out.mux(s.encode(f))
        out.mux(s.encode(None))
    return path


@pytest.mark.parametrize("name,curve,primaries", [("HLG", 18, 9), ("PQ", 16, 9), ("PQ with P3", 16, 12), ("wide", 14, 9), ("P3", 1, 12)])
def test_hdr_and_wide_colours_look_as_they_do_in_a_player(tmp_path, name, curve, primaries):
    "All but highlights come back as they were filmed, and are written as BT.709."
    image = (FACE*.9).astype(np.uint8)
    source = open_video(hdr(tmp_path/"h.mkv", image, curve, primaries))
    got = next(source.frames())
    assert np.abs(got.astype(int) - image).mean() < 2, (got.mean((0, 1)), image.mean((0, 1)))
    out = write_video(tmp_path/"o.mp4", source.frames(), source.fps)
    with av.open(str(out)) as c:
        f = next(c.decode(video=0))
        assert (f.color_trc, f.color_primaries, f.colorspace) == (1, 1, 1)
    assert psnr(next(open_video(out).frames()), image) > 32


def test_no_picture_of_4k_waits_in_the_encoder(tmp_path):
    for (w, h), waits in (((256, 192), True), ((2304, 1856), False)):
        frames = [np.roll(np.tile(np.linspace(0, 255, w, dtype=np.uint8)[None, :, None], (h, 1, 3)), 3*k, 1) for k in range(8)]
        path = write_video(tmp_path/f"{w}.mp4", frames, 25)
        with av.open(path) as box: assert bool(box.streams.video[0].codec_context.has_b_frames) == waits
        assert psnr(next(open_video(path).frames()), frames[0]) > 40
