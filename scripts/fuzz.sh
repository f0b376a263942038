#!/usr/bin/env bash
# Fuzzes the predicate: FUZZ_SECONDS (60 unless told) of libFuzzer on fuzz/fuzz_targets/predicate.rs, from the texts that the tests know.
# cargo-fuzz is installed where it is missing. What it finds is in fuzz/artifacts; it ends with an error then.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz --version 0.13.1
# The versions are those of the operator; libFuzzer's own are added to them.
[ fuzz/Cargo.lock -nt Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock

# The seeds are the texts of the tests and those of fuzz/seeds, one a line: one file each.
corpus=fuzz/corpus/predicate
mkdir -p "$corpus"
n=0
while IFS= read -r text; do
  printf '%s' "$text" >"$corpus/seed-$((n += 1))"
done < <(
  {
    sed -nE 's/^ *(#\[case[^(]*\()?(r#)?"(([^"\\]|\\.)+)"#?,?.*$/\3/p' src/policy/predicate/tests.rs src/engine/sqlite/tests/predicate.rs
    sed -nE 's/^ *[a-z_]+: condition\(r?#?"(([^"\\]|\\.)+)"#?, .*$/\1/p' tests/it/conformance/cases/predicates.rs
    cat fuzz/seeds
  } | sed 's/\\"/"/g' | sort --unique
)
[ "$n" -gt 300 ] || { printf 'fuzz: only %s seeds, a file of tests has changed its form\n' "$n" >&2; exit 1; }
printf 'fuzz: %s seeds, %s s\n' "$n" "${FUZZ_SECONDS:=60}"

# What cargo-fuzz wants is behind the compiler's unstable flags; the toolchain stays the pinned one.
export RUSTC_BOOTSTRAP=1
exec cargo fuzz run --sanitizer none predicate -- -max_total_time="$FUZZ_SECONDS" -max_len=4096 -dict=fuzz/predicate.dict -timeout=10 \
  -print_final_stats=1
