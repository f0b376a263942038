#!/usr/bin/env bash
# Fuzzes the predicate: FUZZ_SECONDS (60 unless told) of libFuzzer on fuzz/fuzz_targets/predicate.rs, from the texts that the tests know.
# cargo-fuzz is installed where it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz --version 0.13.1
corpus=fuzz/corpus/predicate
mkdir -p "$corpus"
# The seeds are the texts of the tests: one file each.
n=0
while IFS= read -r text; do
  printf '%s' "$text" >"$corpus/seed-$((n += 1))"
done < <(grep -oE '#\[case[^(]*\("[^"]+"' src/policy/predicate/tests.rs | sed 's/^[^"]*"//; s/"$//' | sort --unique)
printf 'fuzz: %s seeds, %s s\n' "$n" "${FUZZ_SECONDS:=60}"
# The sanitizers that cargo-fuzz wants are behind the compiler's unstable flags; the toolchain stays the pinned one.
export RUSTC_BOOTSTRAP=1
exec cargo fuzz run --sanitizer none predicate -- -max_total_time="$FUZZ_SECONDS" -max_len=300 -dict=fuzz/predicate.dict -timeout=10
