# SPDX-License-Identifier: Apache-2.0
"""Lets the package index's torch for Linux be imported without the 2 GB of CUDA libraries that its pip metadata asks for.
Usage: python cuda_stand_ins.py, with the environment's Python, after `pip install --no-deps torch`.

torch's own libraries link them, but a program on the CPU calls none of them (but the CUDA runtime, which is small and
installed for real). For each of the others this writes a library beside torch's with the functions that torch names,
each of which answers 1, an error in all of these interfaces. For tests on the CPU only."""

import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile

# Where a symbol without a version belongs, by how it starts; a version that is no library's name belongs likewise.
BY_PREFIX = {
    "cusparseLt": "libcusparseLt.so.0",
    "cufft": "libcufft.so.12",
    "cuFile": "libcufile.so.0",
    "nccl": "libnccl.so.2",
    "pnccl": "libnccl.so.2",
    "curand": "libcurand.so.10",
    "cudnn": "libcudnn.so.9",
    "nvshmem": "libnvshmem_host.so.3",
}
REAL = ("libcudart.", "libcuda.")  # installed, or the driver's own
OURS = re.compile(r"lib(cu|nccl|nv).*\.so\.\d+$")


def readelf(*arguments):
    return subprocess.run(["readelf", "-W", *arguments], capture_output=True, text=True, check=True).stdout


def needed_by(library):
    return {name for name in re.findall(r"\(NEEDED\).*\[(.+)\]", readelf("-d", library)) if OURS.match(name) and not name.startswith(REAL)}


def undefined_in(library):
    """(name, version or None) of each symbol that the library takes from others."""
    for line in readelf("--dyn-syms", library).splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[6] == "UND":
            name, _, version = fields[7].partition("@")
            yield name, version.lstrip("@") or None


def home_of(name, version, sonames):
    if version in sonames:
        return version
    return next((soname for prefix, soname in BY_PREFIX.items() if name.startswith(prefix)), None)


def write_library(path, symbols, scratch):
    """`symbols`: {name: version or None}."""
    source, script = scratch / "stand_in.c", scratch / "stand_in.map"
    source.write_text("".join(f"int {name}(void) {{ return 1; }}\n" for name in sorted(symbols)) or "int nothing;\n")
    versions = {}
    for name, version in symbols.items():
        versions.setdefault(version, []).append(name)
    script.write_text("".join(f"{version} {{ global: {'; '.join(names)}; }};\n" for version, names in versions.items() if version))
    versioned = [f"-Wl,--version-script={script}"] if any(versions) else []
    subprocess.run(
        ["cc", "-w", "-shared", "-fPIC", "-fno-builtin", str(source), f"-Wl,-soname,{path.name}", *versioned, "-o", str(path)], check=True
    )


def main():
    spec = importlib.util.find_spec("torch")
    if spec is None:
        sys.exit("torch is not installed in this environment")
    folder = pathlib.Path(spec.origin).parent / "lib"
    libraries = sorted(folder.glob("libtorch*.so")) + sorted(folder.glob("libc10*.so"))
    sonames = set().union(*map(needed_by, libraries))
    symbols = {soname: {} for soname in sonames}
    for library in libraries:
        for name, version in undefined_in(library):
            home = home_of(name, version, sonames)
            if home in symbols:
                symbols[home][name] = version
    with tempfile.TemporaryDirectory() as scratch:
        for soname in sonames:
            write_library(folder / soname, symbols[soname], pathlib.Path(scratch))
    print(f"wrote {len(sonames)} libraries, {sum(map(len, symbols.values()))} functions into {folder}")


if __name__ == "__main__":
    main()
