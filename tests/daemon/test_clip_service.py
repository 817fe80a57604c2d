"""The clip service as any client of the contract meets it: lists, edits, downloads, searches, recipes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from soundctm.recipe import Recipe
from soundctm_daemon.clip import ClipOrigin, ClipRecord
from soundctm_daemon.library import Library, open_library
from soundctm_daemon.recipes import decode_recipe
from soundgen.v1 import clip_pb2, clip_service_pb2, clip_service_pb2_grpc
from stored_clips import AUDIO, RECIPE, FakeEmbed, embedded, fault_of, record, serving

Stub = clip_service_pb2_grpc.ClipServiceStub
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NASTY = [
    "%", "_", "%rain%", "r_in", "'", "''", '"', "\\", "--", ";", "' OR '1'='1", "'); DROP TABLE clips; --", "?", "?1",
    ":word", "@x", "$x", "\x00", "rain\x00", "\x1b[31m", "\ufeff", "\u202e", "💥", "a" * 1000, "(" * 500, "*", "NEAR/3",
    "%%%%%%", "[a-z]", "{0}", "%s", "\n", "../../etc/passwd",
]  # fmt: skip


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    opened = open_library(tmp_path / "clips")
    yield opened
    opened.close()


@pytest.fixture
def embed() -> FakeEmbed:
    return FakeEmbed()


@pytest.fixture
def stub(library: Library, embed: FakeEmbed) -> Iterator[Stub]:
    with serving(library, embed) as connected:
        yield connected


def of(prompt: str, created_at: float = 1e9, **changes: Any) -> ClipRecord:
    fields = {**RECIPE.to_json(), "prompt": prompt, "negative_prompt": ""}
    return record(created_at, recipe=Recipe(**fields), **{"label": "a label", **changes})


def ids(stub: Stub, **filters: Any) -> list[str]:
    """Of every page, in pages of two."""
    found, token = [], ""
    while True:
        page = stub.ListClips(clip_service_pb2.ListClipsRequest(page_size=2, page_token=token, **filters))
        found += [clip.id for clip in page.clips]
        token = page.next_page_token
        if not token:
            return found


def update(stub: Stub, clip_id: str, **fields: Any) -> clip_pb2.Clip:
    if "tags" in fields:
        fields["tags"] = clip_service_pb2.Tags(tags=fields["tags"])
    return stub.UpdateClip(clip_service_pb2.UpdateClipRequest(clip_id=clip_id, **fields)).clip


def refused(call: Any, request: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    with pytest.raises(grpc.RpcError) as caught:
        answer = call(request)
        list(answer) if hasattr(answer, "__iter__") else None
    return fault_of(caught.value)


def test_filters_are_told_apart_and_hold_together(library: Library, stub: Stub) -> None:
    rain = library.add(of("Heavy RAIN on a roof", 1e9), AUDIO).record.id
    dog = library.add(of("dog barks", 2e9, label="Straße"), AUDIO).record.id
    wind = library.add(of("wind", 3e9), AUDIO).record.id
    update(stub, rain, tags=["Weather", "wet"], favourite=True)
    update(stub, wind, tags=["weather"], notes="Über the rainy SEA")
    assert ids(stub) == [wind, dog, rain]
    assert ids(stub, text="rain") == [wind, rain]
    assert ids(stub, text="  roof heavy ") == [rain]
    assert ids(stub, text="STRASSE") == ids(stub, text="Stra\u00dfe") == [dog]
    assert ids(stub, text="u\u0308ber") == [wind]
    assert ids(stub, text="rain dog") == []
    assert ids(stub, tags=["WEATHER"]) == [wind, rain]
    assert ids(stub, tags=["weather", "wet"]) == [rain]
    assert ids(stub, tags=["weath"]) == []
    assert ids(stub, favourites_only=True) == [rain]
    assert ids(stub, text="rain", tags=["weather"], favourites_only=True) == [rain]
    at = [Timestamp(seconds=second * 10**9) for second in (1, 2, 3)]
    assert ids(stub, created_after=at[0], created_before=at[2]) == [dog]
    just_before, just_after = Timestamp(seconds=2 * 10**9 - 1, nanos=999_999_999), Timestamp(seconds=2 * 10**9, nanos=1)
    assert ids(stub, created_after=just_before, created_before=just_after) == [dog]
    assert ids(stub, created_before=Timestamp(seconds=-62135596800)) == []
    assert ids(stub, created_after=Timestamp()) == [wind, dog, rain]
    stub.DeleteClip(clip_service_pb2.DeleteClipRequest(clip_id=rain))
    assert (ids(stub, text="rain"), ids(stub, text="rain", deleted=True)) == ([wind], [rain])


def test_a_page_token_stays_right_while_clips_come_and_go(library: Library, stub: Stub) -> None:
    made = [library.add(of(f"rain {number}"), AUDIO).record.id for number in range(7)][::-1]
    first = stub.ListClips(clip_service_pb2.ListClipsRequest(page_size=3))
    for number in range(5):
        library.add(of(f"rain, later {number}"), AUDIO)
    stub.DeleteClip(clip_service_pb2.DeleteClipRequest(clip_id=made[2]))  # the last one of the page before
    second = stub.ListClips(clip_service_pb2.ListClipsRequest(page_size=3, page_token=first.next_page_token))
    third = stub.ListClips(clip_service_pb2.ListClipsRequest(page_size=3, page_token=second.next_page_token))
    assert [clip.id for page in (first, second, third) for clip in page.clips] == made
    assert third.next_page_token == ""
    request = clip_service_pb2.ListClipsRequest(page_token=first.next_page_token, text="rain")
    assert refused(stub.ListClips, request)[2]["allowed"].endswith("with the filters of that page")


@pytest.mark.parametrize("nasty", NASTY)
def test_what_people_type_is_looked_for_as_it_is(library: Library, stub: Stub, nasty: str) -> None:
    plain = library.add(of("rain and 100 percent thunder", label="underscore"), AUDIO).record.id
    holds_it = library.add(of("x", label="y"), AUDIO).record.id
    update(stub, holds_it, notes=f"before {nasty} after")
    words = nasty.split()
    expected = [holds_it] if words else [holds_it, plain]  # white space alone asks for nothing
    assert ids(stub, text=nasty) == expected
    tag = nasty.strip()[:40]
    if tag:
        assert update(stub, holds_it, tags=[tag]).tags == [" ".join(tag.lower().split())]
        assert ids(stub, tags=[tag]) == [holds_it]
    assert refused(stub.GetClip, clip_service_pb2.GetClipRequest(clip_id=nasty))[1] == "CLIP_NOT_FOUND"
    for call, kind in ((stub.DeleteClip, "Delete"), (stub.UndeleteClip, "Undelete"), (stub.UpdateClip, "Update")):
        request = getattr(clip_service_pb2, f"{kind}ClipRequest")(clip_id=nasty)
        assert refused(call, request)[:2] == (grpc.StatusCode.NOT_FOUND, "CLIP_NOT_FOUND")
    assert len(ids(stub)) == 2


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_size": 201}, "page_size"),
        ({"page_token": "1-" + "g" * 8}, "page_token"),
        ({"page_token": "9" * 19 + "-" + "0" * 8}, "page_token"),
        ({"page_token": "1"}, "page_token"),
        ({"page_token": "²-00000000"}, "page_token"),
        ({"text": "x" * 1001}, "text"),
        ({"tags": ["x" * 41]}, "tags"),
        ({"tags": ["\n"]}, "tags"),
        ({"tags": ["x"] * 33}, "tags"),
        ({"created_after": Timestamp(seconds=2**62)}, "created_after"),
        ({"created_after": Timestamp(seconds=-(2**62))}, "created_after"),
        ({"created_before": Timestamp(nanos=-1)}, "created_before"),
    ],
)
def test_a_list_that_cannot_be_is_refused(stub: Stub, fields: dict[str, Any], field: str) -> None:
    code, reason, about = refused(stub.ListClips, clip_service_pb2.ListClipsRequest(**fields))
    assert (code, reason, about["field"]) == (INVALID, "INVALID_REQUEST", field)


def test_absent_fields_stay(library: Library, stub: Stub) -> None:
    clip_id = library.add(of("rain", tags=("first",)), AUDIO).record.id
    assert list(update(stub, clip_id).tags) == ["first"]
    changed = update(stub, clip_id, label="  roof ", favourite=True, notes="n" * 4000, tags=["B", "a", "b"])
    assert (changed.label, changed.favourite, changed.notes) == ("roof", True, "n" * 4000)
    assert list(changed.tags) == ["a", "b"]
    assert update(stub, clip_id, favourite=False).label == "roof"
    cleared = update(stub, clip_id, tags=[], notes="")
    assert (list(cleared.tags), cleared.notes, cleared.label) == ([], "", "roof")
    assert stub.GetClip(clip_service_pb2.GetClipRequest(clip_id=clip_id)).clip == cleared
    for fields, field in (
        ({"label": " "}, "label"), ({"label": "x" * 201}, "label"), ({"notes": "n" * 4001}, "notes"),
        ({"tags": clip_service_pb2.Tags(tags=["x"] * 33)}, "tags"),
        ({"tags": clip_service_pb2.Tags(tags=[""])}, "tags"),
    ):  # fmt: skip
        request = clip_service_pb2.UpdateClipRequest(clip_id=clip_id, favourite=True, **fields)
        code, _, about = refused(stub.UpdateClip, request)
        assert (code, about["field"]) == (INVALID, field)
    assert stub.GetClip(clip_service_pb2.GetClipRequest(clip_id=clip_id)).clip == cleared


def test_a_deleted_clip_says_since_when(library: Library, stub: Stub) -> None:
    clip_id = library.add(of("rain"), AUDIO).record.id
    kept = stub.GetClip(clip_service_pb2.GetClipRequest(clip_id=clip_id)).clip
    assert not kept.HasField("deleted_at")
    assert kept.origin == clip_pb2.CLIP_ORIGIN_GENERATED
    deleted = stub.DeleteClip(clip_service_pb2.DeleteClipRequest(clip_id=clip_id)).clip
    assert deleted.HasField("deleted_at")
    assert stub.GetClip(clip_service_pb2.GetClipRequest(clip_id=clip_id)).clip == deleted
    assert stub.UndeleteClip(clip_service_pb2.UndeleteClipRequest(clip_id=clip_id)).clip == kept


def test_a_download_goes_on_where_it_was_cut_off(library: Library, stub: Stub) -> None:
    audio = np.tile(AUDIO, 100)
    clip = library.add(of("rain", samples=audio.shape[1]), audio)
    whole = clip.path.read_bytes()
    for offset in (0, 1, 262144, len(whole) - 1, len(whole)):
        request = clip_service_pb2.DownloadRequest(clip_id=clip.record.id, offset_bytes=offset)
        first, *rest = list(stub.Download(request))
        assert (first.header.size_bytes, first.header.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
        assert all(len(part.chunk) == 262144 for part in rest[:-1])
        assert b"".join(part.chunk for part in rest) == whole[offset:]
    request = clip_service_pb2.DownloadRequest(clip_id=clip.record.id, offset_bytes=len(whole) + 1)
    assert refused(stub.Download, request)[:2] == (grpc.StatusCode.OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE")
    clip.path.write_bytes(whole[:-1] + b"?")
    request = clip_service_pb2.DownloadRequest(clip_id=clip.record.id, offset_bytes=5)
    assert refused(stub.Download, request)[0] == grpc.StatusCode.DATA_LOSS


def test_a_download_outlives_the_deletion_of_its_clip(library: Library, stub: Stub) -> None:
    audio = np.tile(AUDIO, 400)
    clip = library.add(of("rain", samples=audio.shape[1]), audio)
    whole = clip.path.read_bytes()
    parts = stub.Download(clip_service_pb2.DownloadRequest(clip_id=clip.record.id))
    next(parts)
    stub.DeleteClip(clip_service_pb2.DeleteClipRequest(clip_id=clip.record.id))
    assert b"".join(part.chunk for part in parts) == whole


def test_the_nearest_in_meaning_comes_first(library: Library, stub: Stub, embed: FakeEmbed) -> None:
    rain = library.add(of("rain on a tin roof"), AUDIO).record.id
    dog = library.add(of("dog barks"), AUDIO).record.id
    gone = library.add(of("rain on a tin roof, again"), AUDIO).record.id
    own = record(recipe=None, model="", origin=ClipOrigin.IMPORTED, label="tin roof in the rain")
    imported = library.add(own, AUDIO).record.id
    stub.DeleteClip(clip_service_pb2.DeleteClipRequest(clip_id=gone))
    hits = stub.SearchClips(clip_service_pb2.SearchClipsRequest(text="rain on a tin roof")).hits
    assert [hit.clip.id for hit in hits] == [rain, imported, dog]
    assert hits[0].similarity == pytest.approx(1.0)
    expected = embedded(["rain on a tin roof"])[0] @ embedded(["dog barks"])[0]
    assert hits[2].similarity == pytest.approx(float(expected), abs=1e-6)
    like = stub.SearchClips(clip_service_pb2.SearchClipsRequest(clip_id=dog, limit=1)).hits
    assert [hit.clip.id for hit in like] == [max([rain, imported], key=lambda each: similar(stub, dog, each))]
    update(stub, imported, label="dog barks")
    hits = stub.SearchClips(clip_service_pb2.SearchClipsRequest(clip_id=dog)).hits
    assert (hits[0].clip.id, hits[0].similarity) == (imported, pytest.approx(1.0))


@pytest.mark.parametrize("in_page", [1, 2, 3, 100])
def test_a_library_of_several_pages_is_searched_as_one(
    library: Library, stub: Stub, embed: FakeEmbed, monkeypatch: pytest.MonkeyPatch, in_page: int
) -> None:
    monkeypatch.setattr("soundctm_daemon.library._VECTORS_IN_PAGE", in_page)
    prompts = ["rain", "dog", "rain on a roof", "thunder", "rain", "roof"]
    ids = [library.add(of(prompt), AUDIO).record.id for prompt in prompts]
    hits = stub.SearchClips(clip_service_pb2.SearchClipsRequest(text="rain", limit=3)).hits
    found = [hit.clip.id for hit in hits]
    assert ({*found[:2]}, found[2]) == ({ids[0], ids[4]}, ids[2])  # equals have no order: sums differ in their last bit
    like = stub.SearchClips(clip_service_pb2.SearchClipsRequest(clip_id=ids[4])).hits
    assert len(like) == len(ids) - 1
    assert like[0].clip.id == ids[0]


def similar(stub: Stub, clip_id: str, other: str) -> float:
    hits = stub.SearchClips(clip_service_pb2.SearchClipsRequest(clip_id=clip_id)).hits
    return next(hit.similarity for hit in hits if hit.clip.id == other)


def test_a_clip_is_embedded_once_and_by_the_model_that_is_asked(
    library: Library, stub: Stub, embed: FakeEmbed
) -> None:
    search = clip_service_pb2.SearchClipsRequest(text="rain")
    for number in range(20):
        library.add(of(f"sound {number}"), AUDIO)
    stub.SearchClips(search)
    assert sorted(embed.told) == sorted(["rain", *(f"sound {number}" for number in range(20))])
    library.add(of("stored with a vector"), AUDIO, embedded(["stored with a vector"])[0])  # of the recipe's bundle
    embed.told.clear()
    stub.SearchClips(search)
    assert embed.told == ["rain", "stored with a vector"]  # which is another bundle than the one that searches
    embed.told.clear()
    stub.SearchClips(search)
    assert embed.told == ["rain"]
    embed.digest = RECIPE.bundle_digest
    library.add(of("at home"), AUDIO, embedded(["at home"])[0])
    library.add(of("by whom?", other_weights=True), AUDIO, embedded(["by whom?"])[0])
    embed.told.clear()
    assert len(stub.SearchClips(clip_service_pb2.SearchClipsRequest(text="rain", limit=200)).hits) == 23
    assert len(embed.told) == 1 + 20 + 1 + 1
    assert "at home" not in embed.told


def test_a_model_that_changes_during_a_search_starts_it_again(
    library: Library, stub: Stub, embed: FakeEmbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        library.add(of(f"sound {number}"), AUDIO)
    keep = library.keep_embeddings

    def keep_and_change(*arguments: Any) -> None:
        keep(*arguments)
        embed.digest = "f" * 64

    monkeypatch.setattr(library, "keep_embeddings", keep_and_change)
    assert len(stub.SearchClips(clip_service_pb2.SearchClipsRequest(text="sound 7")).hits) == 20
    assert library.not_embedded("f" * 64, 26) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "like"),
        ({"text": " \n"}, "text"),
        ({"text": "x" * 1001}, "text"),
        ({"text": "rain", "limit": 201}, "limit"),
    ],
)
def test_a_search_that_cannot_be_is_refused(stub: Stub, fields: dict[str, Any], field: str) -> None:
    code, reason, about = refused(stub.SearchClips, clip_service_pb2.SearchClipsRequest(**fields))
    assert (code, reason, about["field"]) == (INVALID, "INVALID_REQUEST", field)


def test_searching_nothing_finds_nothing(stub: Stub) -> None:
    assert list(stub.SearchClips(clip_service_pb2.SearchClipsRequest(text="rain")).hits) == []
    request = clip_service_pb2.SearchClipsRequest(clip_id="nosuchclip")
    assert refused(stub.SearchClips, request)[1] == "CLIP_NOT_FOUND"


def test_a_recipe_leaves_whole(library: Library, stub: Stub) -> None:
    made = library.add(record(), AUDIO).record
    text = stub.ExportRecipe(clip_service_pb2.ExportRecipeRequest(clip_id=made.id)).recipe_json
    assert decode_recipe(text) == (made.model, made.recipe)
    assert json.loads(text)["format"] == 1
    foreign = library.add(record(recipe=None, model="", origin=ClipOrigin.IMPORTED), AUDIO).record
    request = clip_service_pb2.ExportRecipeRequest(clip_id=foreign.id)
    assert refused(stub.ExportRecipe, request)[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "NO_RECIPE")
    told = stub.GetClip(clip_service_pb2.GetClipRequest(clip_id=foreign.id)).clip
    assert not told.HasField("recipe")
    assert told.origin == clip_pb2.CLIP_ORIGIN_IMPORTED
    found = library.add(record(mean=0.5, asked_samples=9999, other_weights=True), AUDIO).record
    assert set(stub.GetClip(clip_service_pb2.GetClipRequest(clip_id=found.id)).clip.findings) == {
        clip_pb2.AUDIO_FINDING_DC_OFFSET, clip_pb2.AUDIO_FINDING_SHORT, clip_pb2.AUDIO_FINDING_OTHER_WEIGHTS,
    }  # fmt: skip
