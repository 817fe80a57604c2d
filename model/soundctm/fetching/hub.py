"""The model hub over HTTP: what a repository holds, and the bytes of its files."""

from __future__ import annotations

import ipaddress
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

from soundctm.errors import FetchError, FetchForbiddenError, FetchNotFoundError, FetchUnreachableError

_TIMEOUT_SECONDS = 30.0          # without a single byte
_LONGEST_RECORD_BYTES = 10_000_000
_LONGEST_LICENCE = 100           # characters of a licence's name
_COMMIT = _GIT_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[^\S\n\t ]|[\x00-\x08\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class HubFile:
    """Big files are recorded by `sha256`, small ones by `git_sha1`: the hash of their git object."""

    size_bytes: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class HubRecord:
    """A repository at one commit. `licence` is None where its publisher states none."""

    commit: str
    licence: str | None
    files: Mapping[str, HubFile]


class Hub:
    def __init__(self, endpoint: str, token: str | None) -> None:
        """`endpoint` is https, or http on this machine. Raises FetchError."""
        parts = urllib.parse.urlsplit(endpoint)
        if not (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))):
            raise FetchError(f"the hub's address is {endpoint!r}; allowed: https://…, or http:// on this machine.")
        self._endpoint, self._token = endpoint.rstrip("/"), token
        self._opener = urllib.request.build_opener(_KeepTokenAtHome)

    def record(self, repository: str, revision: str) -> HubRecord:
        """Raises FetchError and its kinds."""
        revision_in_path = urllib.parse.quote(revision, safe="")
        url = f"{self._endpoint}/api/models/{repository}/revision/{revision_in_path}?blobs=true"
        with self._open(url, {}) as answer:
            try:
                return _record(json.loads(answer.read(_LONGEST_RECORD_BYTES)))
            except (OSError, HTTPException) as error:
                raise _unreachable(url, error) from error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise FetchError(
                    f"{self._endpoint} answers something else than the record of {repository} ({error!r}). Check the "
                    "hub's address, or try again later."
                ) from error

    def open_file(self, repository: str, commit: str, path: str, start: int = 0) -> HTTPResponse:
        """The file's bytes from `start` on; status 200 instead of 206 means that they come from the beginning.

        Raises FetchError and its kinds; reading the answer raises OSError or HTTPException.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        return self._open(f"{self._endpoint}/{repository}/resolve/{commit}/{urllib.parse.quote(path)}", headers)

    def _open(self, url: str, headers: Mapping[str, str]) -> HTTPResponse:
        request = urllib.request.Request(url, headers={"User-Agent": "soundctm", **headers})
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            answer: HTTPResponse = self._opener.open(request, timeout=_TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            raise _refusal(url, error.code) from error
        except (OSError, HTTPException) as error:
            raise _unreachable(url, error) from error
        return answer


class _KeepTokenAtHome(urllib.request.HTTPRedirectHandler):
    """Files lie with other hosts than the hub: the token does not follow there, nor anything to an open line."""

    def redirect_request(
        self, request: urllib.request.Request, response: Any, code: int, message: str, headers: Any, new_url: str
    ) -> urllib.request.Request | None:
        old, new = urllib.parse.urlsplit(request.full_url), urllib.parse.urlsplit(new_url)
        if new.scheme != "https" and old.scheme == "https":
            raise FetchError(f"{request.full_url} sends its caller to {new_url}, which is not https; refusing it.")
        redirected = super().redirect_request(request, response, code, message, headers, new_url)
        token = request.get_header("Authorization")
        if redirected is not None and token and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            redirected.add_unredirected_header("Authorization", token)
        return redirected


def printable(text: str) -> str:
    """Without what would move a terminal's cursor or colour its text."""
    return _CONTROL.sub("", text)


def _record(data: Any) -> HubRecord:
    commit = data["sha"]
    if not _COMMIT.fullmatch(commit):
        raise ValueError(f"commit {commit!r}")
    return HubRecord(commit, _licence(data), {file["rfilename"]: _file(file) for file in data["siblings"]})


def _file(data: Any) -> HubFile:
    lfs = data.get("lfs") or {}
    size, sha256, git_sha1 = lfs.get("size", data.get("size")), lfs.get("sha256"), data.get("blobId")
    if not isinstance(size, int) or size < 0:
        raise ValueError(f"size {size!r} of {data['rfilename']!r}")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise ValueError(f"sha256 {sha256!r} of {data['rfilename']!r}")
    if git_sha1 is not None and not _GIT_SHA1.fullmatch(git_sha1):
        raise ValueError(f"blobId {git_sha1!r} of {data['rfilename']!r}")
    return HubFile(size, sha256, None if lfs else git_sha1)


def _licence(data: Any) -> str | None:
    """As the card states it, or a tag "license:…"; the hub's word for a licence of another name is "other"."""
    card = data.get("cardData") or {}
    tags = [tag.removeprefix("license:") for tag in data.get("tags") or [] if str(tag).startswith("license:")]
    stated = card.get("license_name") or card.get("license") or (tags[0] if tags else None)
    if isinstance(stated, list):
        stated = " AND ".join(map(str, stated))
    if not stated or stated == "unknown":
        return None
    return printable(str(stated))[:_LONGEST_LICENCE]


def _refusal(url: str, code: int) -> FetchError:
    if code in (401, 403):
        return FetchForbiddenError(
            f"{url} is refused (HTTP {code}): the repository is gone, private, or asks you to agree to its terms "
            "on its page. Do that, put your token in HF_TOKEN, and try again."
        )
    if code == 404:
        return FetchNotFoundError(
            f"{url} is not there (HTTP 404): its publisher moved or removed it. Download the files by hand and use "
            "`soundctm models convert`."
        )
    return FetchUnreachableError(f"{url} answers HTTP {code}. Try again later; what is here already is kept.")


def _unreachable(url: str, error: Exception) -> FetchUnreachableError:
    return FetchUnreachableError(f"{url} cannot be reached ({error}). Check the network and try again.")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
