# SPDX-License-Identifier: Apache-2.0
"""Other libraries' interfaces, served by Crossdock."""
