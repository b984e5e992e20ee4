# SPDX-License-Identifier: Apache-2.0
"""Where the C++ side of the package lies, for `python -m crossdock --cmake-dir` and its like."""

import pathlib

_HERE = pathlib.Path(__file__).resolve().parent


def _found(pattern, what):
    for path in sorted(_HERE.glob(pattern)):
        return path
    raise FileNotFoundError(f"this build of the Python package has no {what}; `pip install .` of the sources has")


def cmake_dir() -> str:
    """Folder for CMake: -Dcrossdock_DIR=..."""
    return str(_found("lib*/cmake/crossdock/crossdockConfig.cmake", "CMake package").parent)


def include_dir() -> str:
    """Folder of the headers: -I..."""
    return str(_found("include/crossdock/crossdock.hpp", "headers").parent.parent)


def library_dir() -> str:
    """Folder of the library: -L... -lcrossdock."""
    return str(_found("lib*/libcrossdock.so*", "library").parent)


def command() -> str:
    """The program `crossdock`."""
    return str(_found("bin/crossdock", "command `crossdock`: CLI11, nlohmann-json and fmt were not there when it was built"))


def peers() -> str:
    """Times of other libraries, for `python -m crossdock.report`."""
    return str(_found("share/doc/crossdock/peers.json", "peers.json"))
