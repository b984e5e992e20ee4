#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: each_rank.sh N COMMAND...   starts COMMAND --rank R --meeting NAME for R = 0 to N-1 and waits for all.
set -u
ranks=$1 status=0 pids=()
shift
meeting=each-rank-$$-$RANDOM
for ((rank = 0; rank < ranks; ++rank)); do
  "$@" --rank "$rank" --meeting "$meeting" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "$status"
