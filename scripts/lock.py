"""Write the hashes of every file of every pinned release into the lock files.

``make lock``, or ``python scripts/lock.py requirements.lock requirements-dev.lock [--wheel FILE …]``

Pins (``name==version``) are kept as they stand; change a version by hand, then run this. Hashes are those that the
package index tells, for the files of all systems and versions of Python, so that one lock serves every machine. Hashes
of files that lie on this machine's own disk (``--wheel``, or where pip is told to look) are added: such as a build of
torch without CUDA, whose bytes are others. A hash that the lock has already for the same version is kept.

pip is asked as it is set up here; it has no public command that lists the hashes of files for other machines, so its
inner parts are used, of the version that lies in the virtual environment.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pip._internal.commands import create_command
from pip._internal.index.package_finder import PackageFinder
from pip._internal.models.link import Link
from pip._vendor.packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from pip._vendor.packaging.version import InvalidVersion, Version

PIN = re.compile(r"([A-Za-z0-9_.\-]+)==([A-Za-z0-9.!]+)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def release_of(name: str) -> tuple[str, Version] | None:
    """Return project and version of a file, without the local part of the version; None for other kinds of files."""
    try:
        project, version = parse_wheel_filename(name)[:2] if name.endswith(".whl") else parse_sdist_filename(name)
        return project, Version(version.public)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def sha256_of(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def links_of(finder: PackageFinder, name: str) -> Iterator[Link]:
    """Yield every file of a project that pip can see, whatever machine it is for."""
    found: list[Link] = []

    def keep(page: Link) -> list[object]:
        answer = finder._link_collector.fetch_response(page)
        if answer is not None:
            from pip._internal.index.collector import parse_links

            found.extend(parse_links(answer))
        return []

    sources = finder._link_collector.collect_sources(name, keep)
    for source in (*sources.index_urls, *sources.find_links):
        if source is not None:
            list(source.page_candidates())
            found.extend(source.file_links())
    yield from found


def hashes_of(finder: PackageFinder, name: str, version: Version) -> set[str]:
    """Return the hashes of the files of one release."""
    hashes = set()
    for link in links_of(finder, name):
        if release_of(link.filename) != (canonicalize_name(name), version) or link.is_yanked:
            continue
        if link.hash_name == "sha256" and link.hash:
            hashes.add(link.hash)
        elif link.is_file:
            hashes.add(sha256_of(Path(link.file_path)))
    return hashes


def read_lock(file: Path) -> tuple[list[str], dict[tuple[str, str], set[str]]]:
    """Return the comments at the head, and for each pin the hashes that stand there."""
    text = file.read_text(encoding="utf-8")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    pins: dict[tuple[str, str], set[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if pin := PIN.match(line):
            pins[pin[1], pin[2]] = set(HASH.findall(line))
    return comments, pins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("locks", nargs="+", type=Path)
    parser.add_argument("--wheel", nargs="*", type=Path, default=[], help="files whose hashes are added to their pins")
    options = parser.parse_args()
    own = [(release_of(file.name), sha256_of(file)) for file in options.wheel]
    known: dict[tuple[str, str], set[str]] = {}
    command = create_command("index")
    settings, _ = command.parse_args(["versions", "pip", "--disable-pip-version-check"])
    with command.main_context():
        session = command.get_default_session(settings)
        finder = command._build_package_finder(options=settings, session=session)
        locks = {file: read_lock(file) for file in options.locks}
        for pin, there in (pin for _, pins in locks.values() for pin in pins.items()):
            if pin not in known:
                release = canonicalize_name(pin[0]), Version(pin[1])
                told = hashes_of(finder, *pin[:1], release[1])
                if not told:
                    sys.exit(f"The index tells no file of {pin[0]}=={pin[1]}.")
                known[pin] = told | {sha256 for other, sha256 in own if other == release}
                print(f"{pin[0]}=={pin[1]}: {len(known[pin])} files", file=sys.stderr)
            known[pin] |= there
    for file, (comments, pins) in locks.items():
        lines = [
            " \\\n    ".join([f"{name}=={version}", *(f"--hash=sha256:{h}" for h in sorted(known[name, version]))])
            for name, version in pins
        ]
        file.write_text("\n".join([*comments, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
