#!/bin/bash
# The grids of this folder, one arm after the other. Stop it as you like: the same command goes on, in another place too, since
# finished runs are written into results/GRID at once (commit them) and taken over from there.
#
#   FOVEATE_DATA=... FOVEATE_EVIDENCE=... OUT=... benchmarks/evidence/run.sh [GRID[:ARM,ARM] ...]
#
# FOVEATE_DATA holds acdc_cine_mr, lidc_nodules_m3dv and msd_hippocampus; FOVEATE_EVIDENCE gets what make_data.py writes and
# the supervised weights; OUT gets runs. MINUTES (0: no limit) stops each grid in time. PYTHON: with foveate installed.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-$HERE/../../.venv/bin/python}
: "${FOVEATE_DATA:?is the folder with acdc_cine_mr, lidc_nodules_m3dv and msd_hippocampus}"
: "${FOVEATE_EVIDENCE:?is a folder for the cubes of LIDC and the supervised weights}"
: "${OUT:?is a folder for the runs}"
foveate() { "$PYTHON" -m foveate.cli "$@"; }

supervised() {
  test -e "$FOVEATE_EVIDENCE/supervised/exported/card.json" || foveate finetune --data "$FOVEATE_DATA/msd_hippocampus" \
    --task segmentation --task.classes '[anterior=1,posterior=2]' --split.source "$HERE/fewlabel/hippocampus_split" --init none \
    --size small --dimension 2 --encoder unet2d --encoder.width 8 --encoder.levels 5 --task.appearance.normalisation zscore \
    --task.crops.grid '[32,32]' --task.crops.source_sizes '[[32,32]]' \
    --steps "${SUPERVISED_STEPS:-1000}" --batch_size 8 --validate_every 1000000 --validation.cases 10 --out "$FOVEATE_EVIDENCE/supervised"
}

test $# -gt 0 || set -- acdc lidc hippocampus acdc_terms
for asked in "$@"; do
  grid=${asked%%:*} only=${asked#"$grid"}
  case $grid in
    lidc) test -d "$FOVEATE_EVIDENCE/lidc_nodules" || "$PYTHON" "$HERE/make_data.py" "$FOVEATE_DATA" "$FOVEATE_EVIDENCE" ;;
    acdc) case ",${only#:}," in ,, | *,supervised*) supervised ;; esac ;;
  esac
  foveate compare --config "$HERE/$grid.yaml" --out "$OUT/$grid" --cells "$HERE/results/$grid" \
    --budget_minutes "${MINUTES:-0}" ${only:+--only "${only#:}"}
done
if test -e "$HERE/write_page.py"; then "$PYTHON" "$HERE/write_page.py"; fi
