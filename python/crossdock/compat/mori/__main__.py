# SPDX-License-Identifier: Apache-2.0
"""python -m crossdock.compat.mori PROGRAM ARGUMENTS...: runs a program, or `-m MODULE`, for which `mori` is crossdock.compat.mori, in
this process and in those that it starts."""

import os
import sys

from crossdock.compat.mori import alias_folder


def main(arguments):
    if not arguments:
        print(__doc__)
        return 1
    path = os.pathsep.join(filter(None, [alias_folder(), os.environ.get("PYTHONPATH")]))
    os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, "PYTHONPATH": path})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
