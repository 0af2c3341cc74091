#!/usr/bin/env bash
# Kills a short run with kill -9 at N random moments (default 100), goes on with each, and compares what it ends with, bit for
# bit, with a run that was left alone. Needs bash and coreutils.
#
#   scripts/kill_and_resume.sh [N]         SKINNY=/path/to/skinny uses that program instead of building one
set -euo pipefail
cd "$(dirname "$0")/.."
count="${1:-100}"
if [ -z "${SKINNY:-}" ]; then
    cargo build --release --quiet
    SKINNY="${CARGO_TARGET_DIR:-target}/release/skinny"
fi
SKINNY="$(realpath "$SKINNY")"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# Thresholds, re-activations and a falling density, an average of the weights, augmentation; a checkpoint every 5 steps.
train=("$SKINNY" train --set data.train=512 --set data.test=256 --set data.validation=128 --set train.epochs=4
    --set train.ema=0.9 --set "train.checkpoint='5it'" --set 'data.augment=["shift:2"]' --set sparsity.reactivated=saved)
recipe=glyphs-lenet5-iht-10x

# Everything that a run leaves, without what tells of time and place.
outcome() {
    (
        cd "$1"
        sha256sum weights/*.safetensors masks.safetensors layers.csv flips.jsonl confusion.csv mistakes.json \
            preprocess.json recipe.toml
        cut -d, -f1-11 results.csv
        grep -v '"seconds"' summary.json
    )
}

milliseconds() { date +%s%3N; }

started=$(milliseconds)
"${train[@]}" "$recipe" --threads 2 --out whole >log 2>&1 || { cat log; exit 1; }
took=$(($(milliseconds) - started))
outcome whole >expected
echo "a run takes $took ms; killing $count"

same=0 before=0 during=0 after=0
for number in $(seq "$count"); do
    run="run-$number"
    # Up to a tenth beyond the end, so that the last moments are met too.
    moment=$(((RANDOM * 32768 + RANDOM) % (took * 11 / 10)))
    "${train[@]}" "$recipe" --threads $((1 + number % 3)) --out "$run" >log 2>&1 &
    pid=$!
    sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    if [ ! -e "$run/recipe.toml" ]; then
        before=$((before + 1))
        "${train[@]}" "$recipe" --threads 1 --out "$run" >log 2>&1 || { cat log; exit 1; }
    elif [ ! -e "$run/summary.json" ]; then
        during=$((during + 1))
        "$SKINNY" train --resume "$run" --threads $((1 + number % 2)) >log 2>&1 || { cat log; exit 1; }
    else
        after=$((after + 1))
    fi
    if outcome "$run" | cmp -s - expected; then
        same=$((same + 1))
        rm -rf "$run"
    else
        echo "run $number, killed after $moment ms, is different:"
        diff <(outcome "$run") expected || true
    fi
done
echo "killed before the run had a folder: $before, while it went on: $during, when it was over: $after"
echo "$same of $count identical"
[ "$same" = "$count" ]
