"""Downloads one file: resumed where it stopped, from one address after another, checked before use.

What is not whole is NAME.part; NAME appears in one step, after its size and checksum were compared.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias
from urllib.parse import urlsplit

from tasks.data.errors import ChecksumError, DataError
from tasks.data.sets import DataFile
from tasks.data.stamp import inspect

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes had so far, and how many there will be, if known."""

TIMEOUT_S = 30.0
"""For a connection, for the next byte, and for every MIN_BYTES_PER_S * TIMEOUT_S bytes."""
MIN_BYTES_PER_S = 1000.0
ATTEMPTS = 3
"""At an address that fails in a way that may pass; those that bring much forward do not count."""
PAUSE_S = 1.0
"""Before the second attempt; twice as long before each further one."""
MAX_UNKNOWN_BYTES = 20 * 2**30
"""Of a file whose size is not published; the largest has 8 GB."""
SPARE_BYTES = 64 * 2**20
"""What a disk must have left over."""
CHUNK_BYTES = 2**18
HEADERS = {"User-Agent": "seqbench-data", "Accept-Encoding": "identity"}


class _PassingError(Exception):
    """Another attempt at the same address may do better."""


class _AddressError(Exception):
    """An address will not do."""


@dataclass(frozen=True)
class _Origin:
    """Where the bytes of a .part file come from; kept beside it."""

    url: str
    validator: str  # a strong ETag or the time of change; empty: the server gave neither


def download(file: DataFile, target: Path, progress: Progress | None = None) -> None:
    """Put a file at `target`. The caller holds the folder.

    Raises:
        DataError: no address gave the right file; the message has the reason of each.
    """
    reasons = []
    for url in file.urls:
        try:
            _from(url, file, target, progress or (lambda *_: None))
            return
        except _AddressError as error:
            reasons.append(f"{url}: {error}")
    raise DataError(f"{file.name} could not be downloaded: {'; '.join(reasons)}")


def _from(url: str, file: DataFile, target: Path, progress: Progress) -> None:
    part = target.with_name(f"{target.name}.part")
    attempt, furthest, began_again = 1, _size(part), False
    while True:
        try:
            resumed = _receive(url, file, part, progress)
        except _PassingError as error:
            gained, furthest = _size(part) - furthest, max(furthest, _size(part))
            attempt = 1 if gained >= MIN_BYTES_PER_S * TIMEOUT_S else attempt + 1
            if attempt > ATTEMPTS:
                raise _AddressError(f"{error} ({ATTEMPTS} attempts)") from None
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
            continue
        try:
            inspect(part, file)
        except ChecksumError as error:
            _drop(part)
            if resumed and not began_again:  # what was there before may have been another file's
                began_again = True
                continue
            raise _AddressError(str(error).replace(str(part), "what it sends")) from None
        part.replace(target)
        _origin_file(part).unlink(missing_ok=True)
        _sync_folder(target.parent)
        return


def _receive(url: str, file: DataFile, part: Path, progress: Progress) -> bool:
    """Bring the .part file to its full length; whether it was begun by an earlier attempt."""
    offset, origin = _begun(url, file, part)
    if offset and offset == file.bytes:
        return True
    headers = dict(HEADERS)
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if origin is not None and origin.validator:
            headers["If-Range"] = origin.validator
    try:
        response = _OPENER.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
        with response:
            if offset and not _continues(response, offset):
                offset = 0
            total = _total(response, offset, file)
            _check_disk(part, total, offset)
            with _opened(part, offset, _Origin(url, _validator(response))) as sink:
                _copy(response, sink, file, offset, total, progress)
                sink.flush()
                os.fsync(sink.fileno())
    except urllib.error.HTTPError as error:
        reason = f"HTTP {error.code} {error.reason}".replace("\n", " ")
        error.close()
        if error.code == 416:  # there is no such range: another file than the one begun
            _drop(part)
        if error.code in (408, 416, 425, 429) or error.code >= 500:
            raise _PassingError(reason) from None
        raise _AddressError(reason) from None
    except (http.client.HTTPException, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(f"cannot write {part}: {error.strerror}") from None
        cause = getattr(error, "reason", error)
        reason = str(cause) or type(cause).__name__
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise _AddressError(reason) from None
        raise _PassingError(reason) from None
    return offset > 0


def _opened(part: Path, offset: int, origin: _Origin) -> IO[bytes]:
    """The .part file, to be gone on with at `offset` or to be begun."""
    try:
        if not offset:
            text = json.dumps({"url": origin.url, "validator": origin.validator})
            _origin_file(part).write_text(text, encoding="utf-8")
        return part.open("ab" if offset else "wb")
    except OSError as error:
        raise DataError(f"cannot write {part}: {error.strerror}") from None


def _begun(url: str, file: DataFile, part: Path) -> tuple[int, _Origin | None]:
    """How much of the file is there, and the validator to go on with.

    With a checksum, bytes of any address may be gone on with: the whole is checked. Without, only
    those of the same address whose server says that the file is still the same.
    """
    offset = _size(part)
    try:
        origin = _Origin(**json.loads(_origin_file(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        origin = None
    same = origin is not None and origin.url == url
    known = file.sha256 is not None or file.md5 is not None
    too_much = file.bytes is not None and offset > file.bytes
    if too_much or not (known or (same and origin is not None and origin.validator)):
        _drop(part)
        return 0, None
    return offset, origin if same else None


def _continues(response: http.client.HTTPResponse, offset: int) -> bool:
    """Whether the server goes on at `offset`, and does not begin again."""
    if response.status != 206:
        return False
    if re.match(rf"bytes {offset}-", response.headers.get("Content-Range", "")):
        return True
    raise _AddressError(f"sends another range than was asked for, not from byte {offset}")


def _total(response: http.client.HTTPResponse, offset: int, file: DataFile) -> int | None:
    """The length of the whole file as the server has it."""
    given = response.headers.get("Content-Length", "")
    total = offset + int(given) if given.isdecimal() else None
    if file.bytes is not None and total is not None and total != file.bytes:
        raise _AddressError(f"has {total} bytes, not {file.bytes}")
    if total is None and file.bytes is None and file.sha256 is None and file.md5 is None:
        raise _AddressError("says no length, and neither length nor checksum is published")
    if total is not None and total > MAX_UNKNOWN_BYTES:
        raise _AddressError(f"has {total} bytes, more than any data set")
    return total if total is not None else file.bytes


def _copy(
    response: http.client.HTTPResponse,
    sink: IO[bytes],
    file: DataFile,
    had: int,
    total: int | None,
    progress: Progress,
) -> None:
    limit = MAX_UNKNOWN_BYTES if total is None else total
    since, had_then = time.monotonic(), had
    progress(file.name, had, total)
    while chunk := response.read1(CHUNK_BYTES):
        had += len(chunk)
        if had > limit:
            raise _AddressError(f"sends more than {limit} bytes")
        sink.write(chunk)
        progress(file.name, had, total)
        if (seconds := time.monotonic() - since) > TIMEOUT_S:
            if had - had_then < MIN_BYTES_PER_S * seconds:
                raise TimeoutError(f"sent {had - had_then} bytes in {seconds:.0f} s")
            since, had_then = time.monotonic(), had
    if total is not None and had < total:
        raise _PassingError(f"ended after {had} of {total} bytes")


def _check_disk(part: Path, total: int | None, offset: int) -> None:
    free = shutil.disk_usage(part.parent).free
    needed = (total or 0) - offset + SPARE_BYTES
    if free < needed:
        raise DataError(f"{part.parent} has {free} bytes free, and {part.stem} needs {needed}")


def _validator(response: http.client.HTTPResponse) -> str:
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):  # weak ones may not be used with If-Range
        return etag
    return response.headers.get("Last-Modified", "")


def _origin_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _origin_file(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web alone."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise _AddressError(f"redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener that knows http and https and nothing else: no files, no FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


_OPENER = _opener()
