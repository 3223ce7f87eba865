"""Entry point: a public checkpoint becomes a workdir, and a workdir a public checkpoint.

t5like convert --from flan-t5-small/ --to runs/flan              from Hugging Face's layout, or from T5X
t5like convert --from runs/sst2 --to sst2-hf/ --format hf        to Hugging Face's layout
t5like convert --from flan-t5-small/ --to runs/flan --dry_run    only say what would become of each array
"""

COMMAND = "t5like convert"
