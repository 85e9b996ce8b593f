"""Compares the list of crates inside release binaries with what Cargo.lock says they were linked from.

`python3 .ci/crate-list.py dist/amd64/spotwarden …`. The list is the section `.dep-v0` of the ELF file, compressed JSON, as
cargo-auditable writes it and scanners read it.
"""

import json
import struct
import subprocess
import sys
import tomllib
import zlib

TARGETS = {62: "x86_64-unknown-linux-musl", 183: "aarch64-unknown-linux-musl"}


def sections(elf: bytes) -> dict[str, bytes]:
    """The sections of a 64-bit little-endian ELF file by name."""
    if elf[:6] != b"\x7fELF\x02\x01":
        sys.exit("not a 64-bit little-endian ELF file")
    start, size, count, names = struct.unpack_from("<Q", elf, 40)[0], *struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, start + index * size) for index in range(count)]
    text = headers[names][4]
    return {
        elf[text + name : elf.index(b"\0", text + name)].decode(): elf[offset : offset + length]
        for name, _, _, _, offset, length in headers
    }


def linked(target: str) -> set[str]:
    """Name and version of every crate whose code is in the binary, from the dependency graph."""
    tree = ["cargo", "tree", "--locked", "--prefix", "none", "--format", "{p}", "--target", target]
    output = subprocess.run([*tree, "--edges", "normal,no-proc-macro"], check=True, capture_output=True, text=True)
    return {" ".join(line.split()[:2]).replace(" v", " ") for line in output.stdout.splitlines() if line}


def locked() -> set[str]:
    """Name and version of every crate in Cargo.lock."""
    with open("Cargo.lock", "rb") as file:
        return {f"{package['name']} {package['version']}" for package in tomllib.load(file)["package"]}


for path in sys.argv[1:]:
    with open(path, "rb") as file:
        elf = file.read()
    section = sections(elf).get(".dep-v0")
    if section is None:
        sys.exit(f"{path}: no list of crates; build it with `make release`")
    packages = json.loads(zlib.decompress(section))["packages"]
    listed = {f"{package['name']} {package['version']}" for package in packages if package.get("kind") != "build"}
    forgotten = linked(TARGETS[struct.unpack_from("<H", elf, 18)[0]]) - listed
    # It may list more, since it takes code that runs in the compiler for code of the binary; but nothing that is not locked.
    unknown = listed - locked()
    if forgotten or unknown:
        sys.exit(f"{path}: linked but not listed: {sorted(forgotten)}; listed but not locked: {sorted(unknown)}")
    print(f"{path}: {len(listed)} crates in {len(section)} bytes, every one that is linked among them")
