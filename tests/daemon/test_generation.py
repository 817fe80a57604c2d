"""A prompt becomes a stored clip; a refine is the same clip in more jumps."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from running_daemon import RunningDaemon, steered
from soundctm.bundle import open_bundle
from soundgen import types
from soundgen.client import AsyncClient, Client
from soundgen.errors import GenerationFailedError, InvalidRequestError, NotFoundError, PreconditionError
from tiny import write_familiar_texts


def final_clip(events: list[types.Event]) -> types.Clip:
    assert isinstance(events[-1], types.ClipReady)
    return events[-1].clip


def audio_of(clip: types.Clip) -> np.ndarray:
    return soundfile.read(clip.path, dtype="float32")[0]


def test_events_come_in_order_and_the_file_is_what_a_download_brings(client: Client, tmp_path: Path) -> None:
    events = list(client.generate("rain on a tin roof", seconds=1.0, steps=3))
    told = [type(event) for event in events if not isinstance(event, types.Queued)]
    assert isinstance(events[0], types.Queued)
    assert told == [types.Started, *[types.JumpDone] * 3, types.ClipReady]
    jumps = [(event.done, event.total) for event in events if isinstance(event, types.JumpDone)]
    assert jumps == [(1, 3), (2, 3), (3, 3)]
    clip = final_clip(events)
    assert {event.clip_id for event in events} == {clip.id}
    downloaded = client.download(clip.id, tmp_path / "copy.wav")
    assert downloaded.read_bytes() == clip.path.read_bytes()
    assert len(downloaded.read_bytes()) == clip.size_bytes
    assert client.clip(clip.id) == clip
    assert client.clips().clips == (clip,)


def test_the_file_is_mono_float_and_as_long_as_asked(client: Client) -> None:
    clip = final_clip(list(client.generate("rain", seconds=0.75)))
    about = soundfile.info(clip.path)
    assert (about.channels, about.samplerate, about.frames, about.subtype) == (1, 44100, 33075, "FLOAT")
    assert (clip.channels, clip.sample_rate_hz, clip.samples, clip.seconds) == (1, 44100, 33075, 0.75)
    assert clip.peak_dbfs == pytest.approx(20 * np.log10(np.abs(audio_of(clip)).max()))


def test_the_first_event_names_the_whole_recipe(client: Client) -> None:
    events = list(client.generate("  rain ", seconds=0.5))
    first, clip = events[0], final_clip(events)
    assert isinstance(first, types.Queued)
    assert first.recipe == clip.recipe
    assert (clip.recipe.prompt, clip.recipe.steps, clip.recipe.omega, clip.recipe.nu) == ("rain", 1, 3.0, 1.0)
    assert clip.recipe.model == "tiny"
    assert clip.label == "rain"


def test_a_recipe_makes_its_clip_again(client: Client) -> None:
    first = final_clip(list(client.generate("rain", seconds=0.5, steps=2, gamma=0.3, nu=1.5, negative_prompt="dog")))
    recipe = first.recipe
    again = final_clip(
        list(
            client.generate(
                recipe.prompt,
                negative_prompt=recipe.negative_prompt,
                seed=recipe.seed,
                seconds=recipe.seconds,
                steps=recipe.steps,
                gamma=recipe.gamma,
                omega=recipe.omega,
                nu=recipe.nu,
                model=recipe.model,
            )
        )
    )
    assert again.recipe == recipe
    assert again.id != first.id
    np.testing.assert_array_equal(audio_of(again), audio_of(first))


def test_clips_without_a_seed_differ(client: Client) -> None:
    seeds = {final_clip(list(client.generate("rain", seconds=0.5))).recipe.seed for _ in range(3)}
    assert len(seeds) == 3


def test_a_refine_is_the_same_recipe_and_noise_in_more_jumps(client: Client) -> None:
    preview = final_clip(list(client.generate("thunder", seconds=1.0, seed=7)))
    refined = final_clip(list(client.refine(preview.id)))
    assert refined.parent_id == preview.id
    assert refined.recipe == types.Recipe(**{**vars(preview.recipe), "steps": 16})
    assert refined.samples == preview.samples
    direct = final_clip(list(client.generate("thunder", seconds=1.0, seed=7, steps=16)))
    np.testing.assert_array_equal(audio_of(refined), audio_of(direct))
    assert client.clip(preview.id) == preview


def test_a_refine_asks_for_more_jumps_than_the_clip_has(client: Client) -> None:
    clip = final_clip(list(client.generate("rain", seconds=0.5, steps=4)))
    with pytest.raises(InvalidRequestError) as caught:
        list(client.refine(clip.id, steps=4))
    assert caught.value.metadata == {"field": "steps", "value": "4", "allowed": "more than the clip's 4, up to 64"}


def test_a_clip_that_does_not_exist_is_not_found(client: Client, tmp_path: Path) -> None:
    for call in (
        lambda: list(client.refine("nosuchclip")),
        lambda: client.clip("nosuchclip"),
        lambda: client.download("nosuchclip", tmp_path / "x.wav"),
    ):
        with pytest.raises(NotFoundError, match="'nosuchclip'") as caught:
            call()
        assert caught.value.reason == "CLIP_NOT_FOUND"
    assert not list(tmp_path.glob("*x.wav*"))


def test_other_weights_under_the_same_name_do_not_refine_a_clip(models: Path) -> None:
    with RunningDaemon(steered()), Client() as client:
        clip = final_clip(list(client.generate("rain", seconds=0.5)))
    whole = (models / "tiny").resolve()
    (models / "tiny").unlink()
    shutil.copytree(whole, models / "tiny")
    manifest = models / "tiny" / "bundle.json"
    manifest.write_text(manifest.read_text().replace("random weights", "other weights"))
    with (
        RunningDaemon(steered()),
        Client() as client,
        pytest.raises(PreconditionError, match="Install the former again") as caught,
    ):
        list(client.refine(clip.id))
    assert caught.value.reason == "MODEL_CHANGED"


@pytest.mark.parametrize(
    ("amplitude", "findings"),
    [(0.0, (types.AudioFinding.SILENT,)), (0.5, ()), (1.5, (types.AudioFinding.CLIPPING,))],
)
def test_silence_and_clipping_are_found(
    models: Path, amplitude: float, findings: tuple[types.AudioFinding, ...]
) -> None:
    with RunningDaemon(steered(amplitude=amplitude)), Client() as client:
        clip = final_clip(list(client.generate("rain", seconds=0.5)))
    assert clip.findings == findings
    assert np.abs(audio_of(clip)).max() == pytest.approx(amplitude, rel=1e-4)  # a float file clips nothing


def test_a_prompt_unlike_all_training_gets_a_clip_and_a_warning(tiny_bundle_dir: Path, models: Path) -> None:
    (models / "tiny").unlink()
    bundle = open_bundle(Path(shutil.copytree(tiny_bundle_dir, models / "tiny")))
    write_familiar_texts(bundle, {"rain on a tin roof": "rain", "dog barks": "dog"}, threshold=0.999)
    with RunningDaemon(), Client() as client:
        known, unknown = (final_clip(list(client.generate(text, seconds=0.5))) for text in ("dog barks", "thunder"))
        assert client.clip(unknown.id) == unknown
    assert known.familiarity is not None and known.familiarity.nearest == "dog"
    assert types.AudioFinding.UNFAMILIAR_PROMPT not in known.findings
    assert unknown.familiarity is not None and unknown.familiarity.nearest in ("rain", "dog")
    assert unknown.familiarity.similarity < unknown.familiarity.threshold == 0.999
    assert types.AudioFinding.UNFAMILIAR_PROMPT in unknown.findings
    assert np.abs(audio_of(unknown)).max() > 0


def test_a_model_that_does_not_say_what_it_knows_gives_no_warning(client: Client) -> None:
    clip = final_clip(list(client.generate("quarterly earnings", seconds=0.5)))
    assert clip.familiarity is None
    assert types.AudioFinding.UNFAMILIAR_PROMPT not in clip.findings


def test_not_a_number_is_never_stored(models: Path) -> None:
    with RunningDaemon(steered(amplitude=float("nan"))), Client() as client:
        with pytest.raises(GenerationFailedError, match="NaN") as caught:
            list(client.generate("rain", seconds=0.5))
        assert caught.value.reason == "NON_FINITE_AUDIO"
        assert client.clips().clips == ()


def test_a_defect_fails_the_clip_and_the_next_one_is_made(models: Path) -> None:
    faults = [RuntimeError("a defect")]

    def fail_once() -> None:
        if faults:
            raise faults.pop()

    with RunningDaemon(steered(fail_once)), Client() as client:
        with pytest.raises(GenerationFailedError, match="RuntimeError: a defect"):
            list(client.generate("rain", seconds=0.5))
        assert final_clip(list(client.generate("rain", seconds=0.5))).samples == 22050


def test_clips_are_listed_newest_first_in_pages(models: Path) -> None:
    with RunningDaemon(steered()), Client() as client:
        made = [final_clip(list(client.generate("rain", seconds=0.5))).id for _ in range(5)]
        listed, token = [], ""
        for expected in (2, 2, 1):
            page = client.clips(page_size=2, page_token=token)
            assert len(page.clips) == expected
            listed += [clip.id for clip in page.clips]
            token = page.next_page_token
        assert token == ""
        assert listed == made[::-1]


def test_the_async_client_does_the_same(daemon: RunningDaemon, tmp_path: Path) -> None:
    async def make() -> types.Clip:
        async with AsyncClient(daemon.listening.address) as client:
            preview = final_clip([event async for event in client.generate("rain", seconds=0.5)])
            clip = final_clip([event async for event in client.refine(preview.id, steps=2)])
            await client.download(clip.id, tmp_path / "copy.wav")
            assert [model.name for model in await client.models()] == ["tiny", "starter"]
            assert (await client.model()).state is types.ModelState.LOADED
            assert await client.clip(clip.id) == clip
            assert [listed.id for listed in (await client.clips()).clips] == [clip.id, preview.id]
            assert await client.serving()
            with pytest.raises(NotFoundError):
                await client.cancel(clip.id)
            return clip

    clip = asyncio.run(make())
    assert (tmp_path / "copy.wav").read_bytes() == clip.path.read_bytes()
