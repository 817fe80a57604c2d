"""Promises of encoding: every clip once, the same bytes however often it was stopped, nothing lost or mixed up."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from small_training import CONFIG
from soundctm.codecs.mel import WhitenedMelCodec
from soundctm.spec import CodecKind
from soundctm_training.config import ConfigError, LengthMix, TextTraining
from soundctm_training.data import shards
from soundctm_training.data.clips import Clip, DataError, Reason, Skipped
from soundctm_training.data.codecs import EncodingCodec
from soundctm_training.data.opening import open_source
from soundctm_training.data.pieces import cuts
from soundctm_training.data.settings import DataKind, DataSettings, EncodeSettings
from soundctm_training.data.sources import Source
from soundctm_training.data.texts import TextEncoder
from soundctm_training.dataset import draw_batch, open_dataset
from soundctm_training.encode import batched_text_encoder, encode, text_encoder
from soundctm_training.runs import RunError, claimed

HOP = 1024
SETTINGS = EncodeSettings(frames=(4, 8), clips_per_shard=5, batch_frames=16)
HALF_PRECISION = 2.0**-10  # relative
THINGS = {0: "low", 1: "low", 2: "high", 3: "high"}  # by caption


class Sounds(Source):
    """Noise whose level, length and caption tell its number; some items are skipped."""

    def __init__(self, count: int = 17, broken: Sequence[int] = (3,)) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def item(self, index: int) -> Clip | Skipped:
        if index in self.broken:
            return Skipped(f"sound {index}", Reason.SILENT, "its peak is 0")
        rng = np.random.default_rng(index)
        samples = int(rng.integers(1, 20 * HOP))
        audio = (0.01 * (index + 1) * rng.uniform(-1, 1, samples)).astype(np.float32)
        return Clip(audio, f"caption {index % 5}", f"sound {index}", THINGS.get(index % 5, f"thing {index}"))

    def identity(self) -> dict[str, Any]:
        return {"kind": "sounds", "count": self.count}


class Words:
    """A text encoder whose tokens hold the text's length."""

    def encode(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        tokens = lengths[:, None, None].expand(-1, 4, 3).float()
        return tokens.clone(), torch.ones(len(prompts), 4, dtype=torch.bool)


def words() -> TextEncoder:
    return Words()


def mel_codec(channels: int = 6) -> WhitenedMelCodec:
    codec = WhitenedMelCodec(channels, slow_dim=8, slow_blocks=1, fast_dim=8, fast_blocks=1)
    generator = torch.Generator().manual_seed(channels)
    codec.whitening.project.copy_(0.01 * torch.randn(codec.whitening.project.shape, generator=generator))
    return codec


def codec_of(codec: WhitenedMelCodec, digest: str = "abc") -> EncodingCodec:
    return EncodingCodec(codec, CodecKind.WHITENED_MEL, digest, codec.whitening.project.shape[1], HOP)


def run(out: Path, source: Source | None = None, settings: EncodeSettings = SETTINGS, **options: Any) -> dict[str, Any]:
    codec = options.pop("codec", None) or codec_of(mel_codec())
    return encode(settings, source or Sounds(), codec, out, text=words, progress=False, **options)


def digests(folder: Path) -> dict[str, str]:
    """Of every file but the lock, which names the process."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def test_every_clip_comes_back_as_its_own_latent_and_caption(tmp_path: Path) -> None:
    manifest = run(tmp_path)
    data, codec, source = open_dataset(tmp_path), mel_codec(), Sounds()
    places = dict.fromkeys(data.pools, 0)
    for index in range(len(source)):
        clip = source.item(index)
        if isinstance(clip, Skipped):
            continue
        frames = -(-len(clip.audio) // HOP)
        for start, length in cuts(frames, SETTINGS.frames):
            audio = np.zeros(length * HOP, np.float32)
            part = clip.audio[start * HOP : (start + length) * HOP]
            audio[: len(part)] = part
            expected = codec.encode(torch.from_numpy(audio)[None, None])[0].numpy()
            pool, row = data.pools[length], places[length]
            places[length] += 1
            stored = pool.latents[np.array([row])][0]
            # half precision, and the rounding of a product of another batch size
            np.testing.assert_allclose(stored, expected, rtol=HALF_PRECISION, atol=1e-4)
            assert data.text.texts[pool.captions[row]] == clip.caption
    assert places == {frames: len(pool.captions) for frames, pool in data.pools.items()}
    assert manifest["clips"] == sum(places.values()) and data.text.texts[0] == ""
    assert manifest["items"] == 17 and manifest["empty_items"] == 1 and manifest["skipped"] == {"silent": 1}
    assert [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()] == [
        {"name": "sound 3", "reason": "silent", "detail": "its peak is 0"}
    ]


def test_what_each_caption_is_of_is_kept_unless_it_is_said_of_several_things(tmp_path: Path) -> None:
    run(tmp_path)
    table = open_dataset(tmp_path).text
    found = dict(zip(table.texts, table.things, strict=True))
    assert found == {"": "", **{f"caption {number}": THINGS.get(number, "") for number in range(5)}}
    rows = {thing: [row for row, found in enumerate(table.things) if found == thing] for thing in ("low", "high")}
    assert {row: some.tolist() for row, some in table.wordings.items()} == {
        row: some for some in rows.values() for row in some
    }


def test_latents_of_an_earlier_version_know_of_no_things(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "things.json").unlink()
    assert not open_dataset(tmp_path).text.wordings


def test_the_manifest_states_the_statistics_of_what_is_stored(tmp_path: Path) -> None:
    manifest = run(tmp_path)
    pools = [np.concatenate([part.astype(np.float64) for part in pool.latents.parts])  # type: ignore[union-attr]
             for pool in open_dataset(tmp_path).pools.values()]
    values = np.concatenate([pool.transpose(1, 0, 2).reshape(6, -1) for pool in pools], axis=1)
    np.testing.assert_allclose(manifest["mean"], values.mean(1), rtol=1e-9)
    np.testing.assert_allclose(manifest["std"], values.std(1), rtol=1e-6)
    assert manifest["identity"]["codec"]["encoder_sha256"] == "abc"


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (1, [(0, 4)]), (5, [(0, 4)]), (6, [(0, 8)]), (8, [(0, 8)]),
        (9, [(0, 8)]), (10, [(0, 8), (8, 4)]), (15, [(0, 8), (8, 8)]), (24, [(0, 8), (8, 8), (16, 8)]),
    ],
)
def test_clips_go_to_the_nearest_length_and_long_ones_are_cut(frames: int, expected: list[tuple[int, int]]) -> None:
    assert list(cuts(frames, (4, 8))) == expected


class StoppedError(Exception):
    """Stands in for the power going off."""


@pytest.mark.parametrize("stop", [0, 7, 12, 16])
def test_a_stopped_encode_continues_to_the_same_bytes(tmp_path: Path, stop: int) -> None:
    class Stopping(Sounds):
        def item(self, index: int) -> Clip | Skipped:
            if index == stop:
                raise StoppedError
            return super().item(index)

    run(tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(tmp_path / "parts", Stopping())
    (tmp_path / "parts" / "block_00099.new").mkdir()  # what a kill in the middle of writing leaves
    with pytest.raises(DataError, match="unfinished encode"):
        open_dataset(tmp_path / "parts")
    read: list[int] = []

    class Watched(Sounds):
        def item(self, index: int) -> Clip | Skipped:
            read.append(index)
            return super().item(index)

    run(tmp_path / "parts", Watched())
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    assert read == list(range(stop - stop % SETTINGS.clips_per_shard, 17))  # blocks that were whole are not read again


def test_text_encoding_continues_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundctm_training.data.texts._PART_TEXTS", 2)
    run(tmp_path / "whole")
    encoded: list[str] = []

    class Tiring(Words):
        def encode(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
            if len(encoded) == 4:
                raise StoppedError
            encoded.extend(prompts)
            return super().encode(prompts)

    with pytest.raises(StoppedError):
        encode(SETTINGS, Sounds(), codec_of(mel_codec()), tmp_path / "parts", text=Tiring, progress=False)
    rest: list[str] = []

    class Counting(Words):
        def encode(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
            rest.extend(prompts)
            return super().encode(prompts)

    encode(SETTINGS, Sounds(), codec_of(mel_codec()), tmp_path / "parts", text=Counting, progress=False)
    assert len(encoded) == 4 and len(rest) == 2  # six texts, "" among them
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")


def test_two_processes_give_the_bytes_of_one(tmp_path: Path) -> None:
    source = open_source(DataSettings(DataKind.POOLS, pools(tmp_path / "pools", 11)))
    run(tmp_path / "one", source)
    run(tmp_path / "two", source, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def pools(folder: Path, clips: int) -> Path:
    folder.mkdir()
    np.save(folder / "audio_4.npy", np.random.default_rng(1).integers(-9000, 9000, (clips, 4 * HOP)).astype(np.int16))
    (folder / "meta_4.jsonl").write_text("".join(f'{{"caption": "c{n}"}}\n' for n in range(clips)))
    return folder


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_mixes_join_the_clips_they_are_made_of(tmp_path: Path, share: float) -> None:
    settings = EncodeSettings(frames=(4,), clips_per_shard=8, batch_frames=16, mix_share=share)
    source = open_source(DataSettings(DataKind.POOLS, pools(tmp_path / "pools", 16)))
    manifest = run(tmp_path / "out", source, settings)
    assert manifest["clips"] == 16 * (1 + share)
    data = open_dataset(tmp_path / "out")
    captions = [data.text.texts[row] for row in data.pools[4].captions]
    alone, mixed = [c for c in captions if " and " not in c], [c for c in captions if " and " in c]
    assert alone == [f"c{number}" for number in range(16)] and len(mixed) == 16 * share
    pairs = [tuple(caption.split(" and ")) for caption in mixed]
    assert all(first in alone and second in alone and first != second for first, second in pairs)
    # a mix is another sound than either of its parts, and comes out the same again
    row = captions.index(mixed[0])
    first = captions.index(mixed[0].split(" and ")[0])
    latents = data.pools[4].latents[np.array([row, first])]
    assert float(np.abs(latents[0] - latents[1]).max()) > 0.05
    run(tmp_path / "again", source, settings)
    assert digests(tmp_path / "again") == digests(tmp_path / "out")


def test_a_complete_folder_is_left_alone(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = digests(tmp_path)
    assert run(tmp_path, Sounds(broken=())) == first  # the same data by its identity: nothing is read
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"codec": codec_of(mel_codec(), "other")}, "another codec: encoder_sha256 = abc there, .* = other now"),
        ({"codec": codec_of(mel_codec(8))}, "another codec: channels = 6 there, channels = 8 now"),
        ({"source": Sounds(18)}, "another data: count = 17 there, count = 18 now"),
        ({"settings": EncodeSettings((4,), clips_per_shard=5, batch_frames=16)}, r"another encode: frames = \[4, 8\]"),
    ],
)
def test_latents_of_two_makings_never_share_a_folder(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    run(tmp_path)
    before = digests(tmp_path)
    with pytest.raises(DataError, match=said):
        run(tmp_path, **changes)
    assert digests(tmp_path) == before


def test_two_encodes_in_one_folder_are_kept_apart(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(RunError, match="already works in"):
        run(tmp_path)


def test_a_full_disk_names_the_block_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "whole")
    written = 0
    save = np.save

    def failing(path: Any, array: Any) -> None:
        nonlocal written
        written += 1
        if written == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, array)

    with monkeypatch.context() as patched:
        patched.setattr(shards.np, "save", failing)
        with pytest.raises(DataError, match=r"block_00001 could not be written.*No space left.*MB are free.*continues"):
            run(tmp_path / "parts")
    assert (tmp_path / "parts" / "block_00000" / "block.json").is_file()
    assert not list((tmp_path / "parts").glob("*.new"))
    run(tmp_path / "parts")
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")


def test_mostly_skipped_data_is_an_error_that_can_be_accepted(tmp_path: Path) -> None:
    source = Sounds(broken=range(2, 17))
    with pytest.raises(DataError, match=r"15 of 17 items were skipped \(15 silent\).*encode\.most_skipped"):
        run(tmp_path, source)
    before = digests(tmp_path)
    accepted = EncodeSettings(frames=(4, 8), clips_per_shard=5, batch_frames=16, most_skipped=0.9)
    assert run(tmp_path, source, accepted)["clips"] > 0 and digests(tmp_path) == before


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all 17 items were skipped: 17 silent"):
        run(tmp_path, Sounds(broken=range(17)))


def test_a_codec_that_gives_nan_is_named_with_its_clip(tmp_path: Path) -> None:
    codec = mel_codec()
    codec.whitening.project[0, 0] = torch.nan
    with pytest.raises(DataError, match=r"latents of sound 0.*not finite"):
        run(tmp_path, codec=codec_of(codec))


def test_a_folder_of_files_of_many_rates_becomes_latents(tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    rng = np.random.default_rng(0)
    for rate_hz in (22_050, 44_100, 48_000):
        soundfile.write(audio / f"{rate_hz}.wav", rng.uniform(-0.5, 0.5, (rate_hz // 5, 2)), rate_hz)
    (audio / "broken.wav").write_bytes(b"RIFF")
    lines = ["file,caption", *(f"{name},noise at {name}" for name in ("22050", "44100", "48000", "broken.wav", "gone"))]
    (audio / "captions.csv").write_text("\n".join(lines))
    manifest = run(tmp_path / "out", open_source(DataSettings(DataKind.FOLDER, audio)))
    assert manifest["clips"] == 3 and manifest["skipped"] == {"unreadable": 1, "no audio file": 1}
    assert set(open_dataset(tmp_path / "out").text.texts) == {"", *(f"noise at {r}" for r in (22050, 44100, 48000))}


def test_batches_are_drawn_from_the_shards(tmp_path: Path) -> None:
    run(tmp_path)
    data = open_dataset(tmp_path, channels=6)
    lengths = LengthMix((4, 8), (0.5, 0.5), 32, 0.0)
    text = TextTraining(drop=0.0, token_noise=0.0, sentence_noise=0.0, token_drop=0.0)
    batches = [draw_batch(data, lengths, text, 1, np.random.default_rng(5)) for _ in range(2)]
    assert torch.equal(batches[0].latent, batches[1].latent)
    assert batches[0].tokens.dtype == torch.float32
    for row, caption in zip(batches[0].tokens, batches[0].captions, strict=True):
        assert float(row[0, 0]) == len(data.text.texts[caption])
    with pytest.raises(ConfigError, match=r"lengths\.frames asks for clips of 16 latent frames.*has 4, 8"):
        draw_batch(data, LengthMix((16,), (1.0,), 32, 0.0), text, 1, np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"have 6 channels, but network\.io_channels is 40"):
        open_dataset(tmp_path, channels=40)


def test_a_folder_without_latents_or_with_missing_ones_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json cannot be read.*train encode"):
        open_dataset(tmp_path)
    run(tmp_path)
    next(iter(sorted(tmp_path.glob("block_*/latents_8.npy")))).unlink()
    with pytest.raises(DataError, match=r"latents of 8 frames but \d+ captions"):
        open_dataset(tmp_path)


def test_texts_encoded_together_are_the_daemons_within_half_precision() -> None:
    texts = ["", "a dog barks", "rain", "heavy rain on a tin roof, with thunder far away and wind in the trees", "rain"]
    tokens, masks = batched_text_encoder().encode(texts)
    alone, alone_masks = text_encoder().encode(texts)
    assert torch.equal(masks, alone_masks)
    torch.testing.assert_close(tokens, alone, rtol=0, atol=HALF_PRECISION)


def test_the_small_configuration_is_for_this_codec() -> None:
    assert CONFIG.network is not None and CONFIG.network.io_channels == mel_codec().whitening.project.shape[1]
