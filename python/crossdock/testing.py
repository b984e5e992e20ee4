# SPDX-License-Identifier: Apache-2.0
"""A pytest fixture for code that uses Crossdock, without a GPU. Installing the package is enough to have it.

    def test_my_layer(crossdock_ranks):
        outputs = crossdock_ranks(4)(my_layer, arguments)    # my_layer(group, arguments) on each of 4 ranks

Ranks are threads of the test; a rank that raises ends the others, and its exception fails the test."""

import pytest

import crossdock


@pytest.fixture
def crossdock_ranks():
    """crossdock_ranks(n) is a callable: (function, *arguments) -> [function(group, *arguments) of each of n ranks]. Keywords are options
    of Group.threads; by default the CPU backend with a deadline of 20 s."""

    def ranks(num_ranks, **options):
        options = {"backend": "cpu", "deadline": 20.0, **options}

        def run(function, *arguments):
            return crossdock.run_ranks(num_ranks, function, *arguments, **options)

        return run

    return ranks
