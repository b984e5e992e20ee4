# SPDX-License-Identifier: Apache-2.0
"""Becomes crossdock.compat.mori when it is imported."""

import sys

from crossdock.compat.mori import install

del sys.modules[__name__]
install()
