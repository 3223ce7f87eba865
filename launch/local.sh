#!/usr/bin/env bash
# The whole road on this machine: a vocabulary, a small T5 1.1 pretrained on the text that comes with Python, fine-tuned
# to tell which module a docstring is from, measured, and asked to write.
#
#   bash launch/local.sh [FOLDER]      results go to FOLDER (default runs/local); run again to resume
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
make_environment
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
folder="${1:-runs/local}"
t5like="$VENV/bin/t5like"

"$t5like" pretrain configs/local.py --workdir "$folder/pretrain"
"$t5like" finetune configs/local_finetune.py --init "$folder/pretrain" --workdir "$folder/finetune"
"$t5like" evaluate --init "$folder/finetune"
echo
echo "what the fine-tuned model says of docstrings it has not seen:"
"$t5like" generate --init "$folder/finetune" --text \
  "docstring: Return the first match of the regular expression in the string." \
  "docstring: Send a request to the server and return its response." \
  "docstring: Return the square root of x as a decimal number."
echo
echo "read the report: $folder/finetune/report.html"
