"""The command `t5like convert`: public to workdir to public bit for bit, and what it makes is what `--init` takes."""

import dataclasses
import json
import os
import pickle
import re
import shutil

import jax
import numpy as np
import pytest
from flax import serialization, traverse_util

from t5like import entry, workdir
from t5like.checkpoint import Checkpoints
from t5like.cli import dispatch
from t5like.config import CommandLine
from t5like.convert import Convert, main
from t5like.evaluate import Evaluate, evaluate
from t5like.families.t5x import T5X
from t5like.finetune import finetune
from t5like.generate import Generate, generate
from t5like.interchange import export_arrays, flatten
from t5like.mesh import MeshShape
from t5like.models.transformer import Transformer
from t5like.objectives.text_to_text import TextToText
from t5like.placement import place
from t5like.pretrain import pretrain
from t5like.public_model import save_public_model
from t5like.sharding import AxisRules
from t5like.trained_model import load_model
from t5like.weights import open_weights
from tests.public_models import hf, logits_of, oracle, public_batch, torch
from tests.tiny_models import abstract_params, ours, vocabulary_of

NAME = "t5-1.1"  # the model of tests that need no more than one
ROUND_TRIPS = (NAME, "bert-next-sentence", "gpt2", "bart-classifier")
TEXTS = ("abc <extra_id_0> pon", "a lamb", "ponk")


@pytest.fixture(scope="module")
def public_folder(tmp_path_factory):
    """Returns a function from the name of a model to a public folder of it; to be read only."""
    folders = {}

    def save(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("public") / name
            transformer, params, _ = ours(name)
            save_public_model(folders[name], transformer.config, vocabulary_of(name), params)
        return folders[name]

    return save


@pytest.fixture(scope="module")
def converted(public_folder, tmp_path_factory):
    """Returns a function from the name of a model to the workdir that its public folder becomes; to be read only."""
    folders = {}

    def convert(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("converted") / name
            main(["--from", str(public_folder(name)), "--to", str(folders[name])])
        return folders[name]

    return convert


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def params_of(init):
    """Returns the parameters of what `--init` names."""
    model = load_model(str(init))
    return model.restore(abstract_params(Transformer(model.config)))


def assert_same_bits(params, expected):
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    for (path, array), (_, other) in zip(flatten(params), flatten(expected), strict=True):
        np.testing.assert_array_equal(array, other, err_msg=path, strict=True)


# --- There and back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_public_to_workdir_to_public_gives_the_same_files(name, public_folder, converted, tmp_path, capsys):
    made = load_model(str(converted(name)))
    assert made.config == ours(name)[0].config
    assert made.vocabulary.sha256 == vocabulary_of(name).sha256
    assert_same_bits(params_of(converted(name)), ours(name)[1])
    capsys.readouterr()
    (tmp_path / "back").mkdir()  # an empty folder will do
    main(["--from", str(converted(name)), "--to", str(tmp_path / "back")])
    assert capsys.readouterr() == (f"wrote {tmp_path / 'back'}\n", "")
    assert contents(tmp_path / "back") == contents(public_folder(name))


def test_public_to_public_copies_arrays_and_changes_their_dtype(public_folder, tmp_path):
    source = str(public_folder("bert"))
    main(["--from", source, "--to", str(tmp_path / "same"), "--format", "hf"])
    assert contents(tmp_path / "same") == contents(public_folder("bert"))
    main(["--from", f"hf:{source}", "--to", str(tmp_path / "half"), "--format", "hf", "--dtype", "bfloat16"])
    with open_weights(source) as before, open_weights(tmp_path / "half") as after:
        assert before.tensors.keys() == after.tensors.keys()
        for name in before.tensors:
            np.testing.assert_array_equal(
                before.read(name).astype(after.tensors[name].dtype), after.read(name)
            )


def test_scanned_and_unrolled_workdirs_give_the_same_files(converted, public_folder, tmp_path):
    transformer, params, _ = ours("umt5", False)
    assert not transformer.config.scans_layers
    workdir.create(tmp_path / "unrolled", Convert(), transformer.config, vocabulary_of("umt5"))
    checkpoints = Checkpoints(tmp_path / "unrolled" / "checkpoints")
    checkpoints.save_params(0, params)
    checkpoints.close()
    main(["--from", str(tmp_path / "unrolled"), "--to", str(tmp_path / "hf")])
    assert contents(tmp_path / "hf") == contents(public_folder("umt5"))


def test_a_model_trained_here_has_its_logits_in_transformers(pretrained, tmp_path):
    main(["--from", str(pretrained), "--to", str(tmp_path / "hf")])
    model, report = hf.T5ForConditionalGeneration.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report.values()), report
    trained = load_model(str(pretrained))
    placement = place(trained.config, MeshShape(), AxisRules(), batch_size=8)
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(3, 300, (8, 12)), rng.integers(3, 300, (8, 7))
    with torch.no_grad():
        expected = model.eval()(
            input_ids=torch.from_numpy(inputs), decoder_input_ids=torch.from_numpy(targets)
        )
    batch = {"encoder_input_tokens": inputs, "decoder_input_tokens": targets}
    batch |= {
        f"{stack}_segment_ids": np.ones_like(batch[f"{stack}_input_tokens"])
        for stack in ("encoder", "decoder")
    }
    with jax.set_mesh(placement.mesh):
        logits = jax.jit(placement.model.apply)({"params": trained.restore(placement.params)}, batch)
    np.testing.assert_allclose(logits, expected.logits.numpy(), rtol=0, atol=1e-5)


# --- T5's own checkpoints -------------------------------------------------------------------------------------

NUM_ROWS = 192  # 40 pieces and the 100 sentinels that a SentencePiece model gets, rounded up


@pytest.fixture(scope="module")
def t5x_arrays():
    """The arrays of a small T5 1.1 by the names T5X gives them."""
    transformer, params, _ = ours(NAME)
    named = export_arrays(T5X, transformer.config, params, np.dtype(np.float32))
    arrays = {name: make() for name, _, _, make in named}
    num_more = NUM_ROWS - len(arrays["token_embedder/embedding"])
    arrays["token_embedder/embedding"] = np.pad(arrays["token_embedder/embedding"], ((0, num_more), (0, 0)))
    arrays["decoder/logits_dense/kernel"] = np.pad(
        arrays["decoder/logits_dense/kernel"], ((0, 0), (0, num_more))
    )
    return arrays


@pytest.mark.parametrize("layout", ["t5x", "orbax"])
def test_checkpoints_of_t5x_come_in_with_a_vocabulary(layout, t5x_arrays, tmp_path, capsys):
    tree = traverse_util.unflatten_dict(t5x_arrays, sep="/")
    if layout == "t5x":
        (tmp_path / "from").mkdir()
        packed = serialization.msgpack_serialize({"version": 3, "optimizer": {"target": tree, "state": {}}})
        (tmp_path / "from" / "checkpoint").write_bytes(packed)
    else:
        import orbax.checkpoint as ocp

        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save(tmp_path / "from", {"target": tree})
    vocabulary_of(NAME).save(tmp_path / "vocabulary")
    spiece = tmp_path / "vocabulary" / "spiece.model"
    main(["--from", str(tmp_path / "from"), "--to", str(tmp_path / "to"), "--vocabulary", str(spiece)])
    assert f"{len(t5x_arrays)} loaded, 0 renamed, 0 initialised, 0 dropped" in capsys.readouterr().out
    main(["--from", str(tmp_path / "to"), "--to", str(tmp_path / "hf")])
    expected = {name: array for name, array in oracle(NAME)[1].items() if "embed_tokens" not in name}
    with open_weights(tmp_path / "hf") as source:
        assert source.tensors.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(source.read(name)[: len(array)], array, err_msg=name)
    assert load_model(str(tmp_path / "to")).vocabulary.num_tokens == 140


def test_a_checkpoint_of_t5x_without_a_vocabulary_is_refused(t5x_arrays, tmp_path, refused):
    (tmp_path / "from").mkdir()
    tree = {"target": traverse_util.unflatten_dict(t5x_arrays, sep="/")}
    (tmp_path / "from" / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    message = refused("--from", str(tmp_path / "from"), "--to", str(tmp_path / "to"))
    assert "comes without a vocabulary; name its SentencePiece model with --vocabulary" in message
    message = refused("--from", str(tmp_path / "from"), "--to", str(tmp_path / "to"), "--format", "hf")
    assert "comes without a vocabulary" in message


# --- What --init takes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inits(public_folder, converted):
    """The two names of one model: the workdir it was converted to, and the public folder."""
    return str(converted(NAME)), f"hf:{public_folder(NAME)}"


def test_generate_writes_the_same_from_both(inits):
    objective = TextToText(inputs_length=16, targets_length=6)
    answers = [list(generate(Generate(init=init, text=TEXTS, objective=objective))) for init in inits]
    assert answers[0] == answers[1]
    assert len(answers[0]) == len(TEXTS)
    assert len({answer for (answer,) in answers[0]}) > 1


@pytest.mark.parametrize("name", [NAME, "gpt2", "bart"])
def test_transformers_writes_what_generate_writes(name, public_folder):
    vocabulary, objective = vocabulary_of(name), TextToText(inputs_length=8, targets_length=6)
    tokenizer = hf.AutoTokenizer.from_pretrained(public_folder(name))
    kind = getattr(hf, type(oracle(name)[0]).__name__)
    model = kind.from_pretrained(public_folder(name))
    free_rows = list(range(vocabulary.num_tokens, model.config.vocab_size))  # embeddings of no token
    texts = ("abc pon", "a lamb", "ink")
    written = generate(Generate(init=f"hf:{public_folder(name)}", text=texts, objective=objective))
    for text, (answer,) in zip(texts, written, strict=True):
        ids = tokenizer(text, return_tensors="pt")
        (answer_ids,) = model.generate(
            **ids,
            max_new_tokens=6,
            do_sample=False,
            suppress_tokens=free_rows or None,
            forced_eos_token_id=None,
            use_cache=False,  # it is as deep as the encoder, and so too short for this decoder
        )
        num_read = 1 if model.config.is_encoder_decoder else ids.input_ids.shape[1]
        assert answer == vocabulary.decode(answer_ids[num_read:])


def test_evaluate_gives_the_same_scores_from_both(inits, small_text):
    config = Evaluate(task="glue/sst2", data_dir=str(small_text / "glue"), answers="ranked", max_examples=8)
    one, other = (
        evaluate(dataclasses.replace(config, init=init), CommandLine(None, False)) for init in inits
    )
    assert one == other


def test_finetune_ends_the_same_from_both(inits, small_finetune, tmp_path):
    ends = []
    for init in inits:
        config = dataclasses.replace(
            small_finetune, init=init, num_steps=2, checkpoint_every_steps=2, answers="ranked"
        )
        run = tmp_path / str(len(ends))
        finetune(config, run)
        ends.append(params_of(run))
    assert_same_bits(*ends)
    assert not np.array_equal(*(tree["token_embedder"]["embedding"] for tree in (ends[0], ours(NAME)[1])))
    main(["--from", str(run), "--to", str(tmp_path / "hf")])
    _, report = hf.T5ForConditionalGeneration.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report.values())


def test_pretrain_ends_the_same_from_both(inits, small_pretrain, tmp_path):
    ends = []
    for init in inits:
        config = dataclasses.replace(
            small_pretrain, init=init, model=ours(NAME)[0].config, num_steps=2, checkpoint_every_steps=2
        )
        run = tmp_path / str(len(ends))
        pretrain(config, run)
        ends.append(params_of(run))
    assert_same_bits(*ends)
    assert not np.array_equal(*(tree["token_embedder"]["embedding"] for tree in (ends[0], ours(NAME)[1])))


# --- Heads ----------------------------------------------------------------------------------------------------


def test_a_new_head_is_drawn_from_the_seed_and_goes_out_with_its_labels(public_folder, tmp_path, capsys):
    source = str(public_folder("bert-next-sentence"))
    wanted = ["--from", source, "--head", "sequence_classification", "--num_labels", "4"]
    for folder, seed in (("one", 0), ("same", 0), ("other", 1)):
        main([*wanted, "--to", str(tmp_path / folder), "--seed", str(seed)])
    printed = capsys.readouterr().out.splitlines()[:4]
    assert [line.split()[:2] for line in printed[:2]] == [
        ["initialised", f"classifier.{part}"] for part in ("weight", "bias")
    ]
    assert re.fullmatch(r"\d+ loaded, 0 renamed, 2 initialised, \d+ dropped", printed[2])
    assert printed[3] == f"wrote {tmp_path / 'one'}"
    for folder in ("one", "same", "other"):
        main(["--from", str(tmp_path / folder), "--to", str(tmp_path / "hf" / folder)])
    weights = [open_weights(tmp_path / "hf" / folder) for folder in ("one", "same", "other")]
    one, same, other = ({name: source.read(name) for name in source.tensors} for source in weights)
    for name, array in one.items():
        np.testing.assert_array_equal(same[name], array, strict=True)
        assert np.array_equal(other[name], array) == (name != "classifier.weight"), name
    kind = hf.BertForSequenceClassification
    model, report = kind.from_pretrained(tmp_path / "hf" / "one", output_loading_info=True)
    assert not any(report.values()), report
    assert model.config.num_labels == 4
    public = public_batch("bert-next-sentence")
    assert logits_of(model(**public)).shape == (3, 4)


# --- Only said ------------------------------------------------------------------------------------------------


def test_a_dry_run_prints_what_becomes_of_every_array_and_writes_nothing(public_folder, tmp_path, capsys):
    folder = tmp_path / "from"
    shutil.copytree(public_folder("bert-next-sentence"), folder)
    arrays = rewrite(
        folder,
        lambda name, array: (
            name.replace("embeddings.LayerNorm.weight", "embeddings.LayerNorm.gamma"),
            array,
        ),
    )
    before = sorted(tmp_path.rglob("*"))
    wanted = ["--from", str(folder), "--head", "token_tagging", "--num_labels", "3", "--dry_run"]
    for to in ([], ["--to", str(tmp_path / "to")]):
        main([*wanted, *to])
        *lines, summary = capsys.readouterr().out.splitlines()
        fates = {}
        for line in lines:
            fate, name = line.split()[:2]
            assert name not in fates
            assert (" -> " in line) == (fate != "dropped")
            fates[name] = fate
        drawn = {"classifier.weight", "classifier.bias"}
        assert fates.keys() == arrays | drawn
        assert {name for name, fate in fates.items() if fate == "initialised"} == drawn
        renamed = {name for name, fate in fates.items() if fate == "renamed"}
        assert renamed == {"bert.embeddings.LayerNorm.gamma"}
        dropped = {name for name, fate in fates.items() if fate == "dropped"}
        assert dropped == {name for name in arrays if name.startswith(("cls.", "bert.pooler."))}
        counts = [
            sum(f == fate for f in fates.values()) for fate in ("loaded", "renamed", "initialised", "dropped")
        ]
        assert summary == "{} loaded, {} renamed, {} initialised, {} dropped".format(*counts)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_an_export_prints_every_array_it_would_write(converted, public_folder, tmp_path, capsys):
    workdir_ = str(converted(NAME))
    capsys.readouterr()
    main(["--from", workdir_, "--to", str(tmp_path / "to"), "--dry_run", "--dtype", "bfloat16"])
    with open_weights(public_folder(NAME)) as source:
        expected = [f"{name} {list(info.shape)} bfloat16" for name, info in source.tensors.items()]
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(expected)
    assert not list(tmp_path.iterdir())


def test_float16_of_a_t5_is_warned_of(converted, tmp_path, capsys):
    main(["--from", str(converted(NAME)), "--to", str(tmp_path / "t5"), "--dtype", "float16"])
    assert capsys.readouterr().err == (
        "warning: T5's activations overflow float16; bfloat16 is as small and safe.\n"
    )
    main(["--from", str(converted("gpt2")), "--to", str(tmp_path / "gpt2"), "--dtype", "float16"])
    assert capsys.readouterr().err == ""


# --- What is refused ------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Returns a function that runs the command, which must end with exit code 2, and gives its one sentence."""
    monkeypatch.setattr(entry, "keep_freed_memory", lambda: None)

    def run(*arguments):
        before = sorted(tmp_path.rglob("*"))
        assert entry.run_entry(dispatch, ["convert", *arguments]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        assert printed.err.endswith(".\n")
        assert "Traceback" not in printed.err
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        return printed.err

    return run


def rewrite(folder, change):
    """Returns the names in a folder's weights once each (name, array) is changed."""
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    arrays = dict(change(name, array) for name, array in load_file(path).items())
    save_file(arrays, path, metadata={"format": "pt"})
    return set(arrays)


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def widen(folder):
    rewrite(
        folder,
        lambda name, array: (name, np.pad(array, (0, 1)) if name.endswith("0.output.dense.bias") else array),
    )


def lose_a_shard(folder):
    oracle("bert")[0].save_pretrained(folder, max_shard_size="6KB")
    (folder / "model.safetensors").unlink()
    (folder / "model-00002-of-00009.safetensors").unlink()


def lose_the_tokenizer(folder):
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()


def lose_the_weights(folder):
    (folder / "model.safetensors").unlink()


def set_in_config(**public):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | public))

    return change


def damage_config(folder):
    (folder / "config.json").write_text((folder / "config.json").read_text()[:-20])


class RunsACommand:
    """What a pickle may hold: a call of any function, here one that leaves a trace."""

    def __init__(self, folder):
        self.trace = folder.parent / "it ran"

    def __reduce__(self):
        return os.system, (f"touch '{self.trace}'",)


def save_a_pickle_that_runs(folder):
    lose_the_weights(folder)
    torch.save({"bert.weight": RunsACommand(folder)}, folder / "pytorch_model.bin")


def save_an_old_pickle_that_runs(folder):
    lose_the_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(RunsACommand(folder), protocol=2))


def lose_the_config(folder):
    (folder / "config.json").unlink()


def leave(folder):
    pass


BAD = {
    "truncated weights": ("bert", truncate, [], r"model\.safetensors is (truncated|damaged)"),
    "wrong shape": (
        "bert",
        widen,
        [],
        r"bert\.encoder\.layer\.0\.output\.dense\.bias in .* has the shape \[25\], .* makes it \[24\]",
    ),
    "missing shard": ("bert", lose_a_shard, [], r"lacks the shard model-00002-of-\d+\.safetensors"),
    "no weights": ("bert", lose_the_weights, [], "holds no weights: none of model.safetensors"),
    "another family": ("bert", set_in_config(model_type="roberta"), [], "which no RoBERTa model has"),
    "another family's sizes": (
        "bert",
        set_in_config(model_type="gpt2"),
        [],
        "names the class BertForMaskedLM, which t5like has no head for",
    ),
    "pickle that runs code": ("bert", save_a_pickle_that_runs, [], r"pytorch_model\.bin .*system"),
    "old pickle that runs code": ("bert", save_an_old_pickle_that_runs, [], r"pytorch_model\.bin "),
    "no tokenizer": ("bert", lose_the_tokenizer, [], r"holds no vocabulary: there is no vocab\.txt in it"),
    "vocabulary too large": (
        NAME,
        leave,
        ["--vocabulary", "bytes"],
        "The vocabulary has 259 ids, but the model of .* only 64 embeddings",
    ),
    "no such vocabulary": (NAME, leave, ["--vocabulary", "none.model"], "none.model"),
    "unknown model_type": ("bert", set_in_config(model_type="mamba"), [], "is of the model_type 'mamba'"),
    "no model_type": ("bert", set_in_config(model_type=None), [], "names no model_type"),
    "no number": ("bert", set_in_config(hidden_size="24"), [], "must give hidden_size as a whole number"),
    "no config": ("bert", lose_the_config, [], "has no config.json, which says what model"),
    "text for a number": ("bert", set_in_config(layer_norm_eps="1e-12"), [], "takes a number, not '1e-12'"),
    "number for a text": (NAME, set_in_config(feed_forward_proj=3), [], "a value in it is of the wrong kind"),
    "numbers for classes": (
        "bert",
        set_in_config(architectures=[3]),
        [],
        "a value in it is of the wrong kind",
    ),
    "size out of range": (
        NAME,
        set_in_config(relative_attention_num_buckets=7),
        [],
        "num_relative_buckets is 7, but must be even",
    ),
    "list for a family": ("bert", set_in_config(model_type=["bert"]), [], "names no model_type"),
    "damaged config": ("bert", damage_config, [], r"config\.json is damaged"),
    "half of ours": (
        "bert",
        leave,
        ["--format", "t5like", "--dtype", "float16"],
        "--dtype float16 is for --format hf; parameters of ours are float32",
    ),
    "head the family lacks": ("bart", leave, ["--head", "token_tagging"], "BART has no head token_tagging"),
    "no such head": ("bart", leave, ["--head", "sentiment"], "--head"),
    "negative labels": ("bert", leave, ["--num_labels", "-1"], "num_labels"),
    "workdir": (
        "bert",
        leave,
        ["--workdir", "runs/bert"],
        "has no run to keep; leave out --workdir runs/bert",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_nothing_is_written(case, public_folder, tmp_path, refused):
    name, damage, arguments, message = BAD[case]
    folder = tmp_path / "from"
    shutil.copytree(public_folder(name), folder)
    damage(folder)
    for more in ([], ["--dry_run"]):
        said = refused("--from", str(folder), "--to", str(tmp_path / "to"), *arguments, *more)
        assert re.search(message, said), said
    assert not (tmp_path / "it ran").exists()


def test_folders_that_do_not_fit_are_refused(public_folder, converted, tmp_path, refused):
    public, own = str(public_folder("bert")), str(converted("gpt2"))
    to = ["--to", str(tmp_path / "to")]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "is not empty; give a new or empty folder" in refused(
        "--from", public, "--to", str(tmp_path / "full")
    )
    assert "is a file" in refused("--from", public, "--to", str(tmp_path / "full" / "file"))
    assert "is a file" in refused("--from", public, "--to", str(tmp_path / "full" / "file" / "below"))
    assert "There is no file or folder" in refused("--from", str(tmp_path / "none"), *to)
    assert "needs --from" in refused(*to)
    assert "needs --to" in refused("--from", public)
    assert "is for public models" in refused("--from", own, *to, "--head", "none")
    assert "is for public models" in refused("--from", own, *to, "--vocabulary", "bytes")
    assert "parameters of ours are float32" in refused(
        "--from", own, *to, "--format", "t5like", "--dtype", "bfloat16"
    )
    new = ["--to", str(tmp_path / "new" / "to")]
    other = ["--format", "hf", "--vocabulary", str(public_folder(NAME))]
    for more in ([], ["--dry_run"]):
        assert "A bert model has no sentencepiece vocabulary" in refused(
            "--from", public, *new, *other, *more
        )
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("--from", str(tmp_path / "empty"), *to)
    shutil.copytree(own, tmp_path / "own")
    shutil.rmtree(tmp_path / "own" / "checkpoints")
    assert "holds no checkpoint" in refused("--from", str(tmp_path / "own"), *to)
