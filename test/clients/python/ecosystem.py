"""What models and datasets are used through: `transformers` and `datasets`, with a model and data made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder
from huggingface_hub import HfApi, snapshot_download
from steps import Arguments, failure, run
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    pipeline,
)

WORDS = ["<unk>", "open", "weights", "belong", "to", "all", "of", "us"]


def tiny_model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=len(WORDS), n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    )


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def publish(api: HfApi, args: Arguments) -> object:
    """A model and its tokenizer by `push_to_hub`, to a branch as a pull request too."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    repo = args["repo"]
    model.push_to_hub(repo, private=True, commit_message="the weights")
    tokenizer.push_to_hub(repo)
    with torch.no_grad():
        model.transformer.wte.weight.add_(1)
    proposed = model.push_to_hub(repo, create_pr=True, commit_message="other weights")
    model.push_to_hub(repo, revision="shifted")
    info = api.model_info(repo)
    return {
        "private": info.private,
        "files": sorted(api.list_repo_files(repo)),
        "titles": [commit.title for commit in api.list_repo_commits(repo)],
        "pull_request": proposed.pr_revision,
    }


def use(_: HfApi, args: Arguments) -> object:
    """What was published, by name, branch, pull request and commit; then from the cache alone."""
    repo = args["repo"]
    tokens = AutoTokenizer.from_pretrained(repo)("open weights belong to us", return_tensors="pt")

    def logits(**where: Any) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = AutoModelForCausalLM.from_pretrained(repo, **where)(**tokens).logits
            return result

    main, shifted = logits(), logits(revision="shifted")
    generate = pipeline("text-generation", model=repo, tokenizer=repo)
    return {
        "same_as_made_here": torch.equal(main, tiny_model().eval()(**tokens).logits.detach()),
        "branch_differs": not torch.equal(main, shifted),
        "pull_request_is_branch": torch.equal(shifted, logits(revision=args["pull_request"])),
        "offline": torch.equal(main, logits(local_files_only=True)),
        "ids": tokens["input_ids"].tolist(),
        "config": AutoConfig.from_pretrained(repo).model_type,
        "generated": len(generate("open weights", max_new_tokens=2, do_sample=False)),
        "no_such_branch": failure(lambda: AutoModel.from_pretrained(repo, revision="nowhere")),
        "visitor": failure(lambda: AutoModel.from_pretrained(repo, token=False, cache_dir=args["visitors_cache"])),
    }


ROWS = [{"text": f"row {i}", "label": i % 2} for i in range(20)]


def share(api: HfApi, args: Arguments) -> object:
    """Data as files of three formats, and by `Dataset.push_to_hub`."""
    folder = Path(args["folder"])
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:5]))
    (folder / "extra.csv").write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS[:5]))
    configs = [
        {"config_name": "lines", "data_files": "train.jsonl", "default": True},
        {"config_name": "few", "data_files": [{"split": "test", "path": "few.jsonl"}]},
    ]
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n# Rows\n")
    files, pushed = args["files"], args["pushed"]
    api.create_repo(files, repo_type="dataset")
    api.upload_folder(folder_path=folder, repo_id=files, repo_type="dataset")
    api.create_tag(files, tag="v1", repo_type="dataset")
    api.upload_file(
        path_or_fileobj=json.dumps(ROWS[0]).encode(), path_in_repo="train.jsonl", repo_id=files, repo_type="dataset"
    )
    DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:3])}).push_to_hub(
        pushed, private=True
    )
    Dataset.from_list(ROWS[:7]).push_to_hub(pushed, config_name="small")
    return sorted(api.list_repo_files(pushed, repo_type="dataset"))


def load(_: HfApi, args: Arguments) -> object:
    """The data by name, configuration, split and revision, whole and streamed, and out of a snapshot."""
    files, pushed = args["files"], args["pushed"]
    streamed = load_dataset(files, "lines", split="train", revision="v1", streaming=True)
    local = snapshot_download(files, repo_type="dataset", revision="v1", allow_patterns="*.jsonl")
    return {
        "lines": load_dataset(files, split="train", revision="v1").to_list() == ROWS,
        "now": load_dataset(files, split="train").num_rows,
        "few": load_dataset(files, "few", split="test").to_list() == ROWS[:5],
        "csv": load_dataset("csv", data_files=f"hf://datasets/{files}/extra.csv", split="train").to_list() == ROWS[:5],
        "streamed": [row["text"] for row in streamed.take(3)],
        "snapshot": load_dataset("json", data_files=f"{local}/train.jsonl", split="train").num_rows,
        "by_uri": load_dataset("json", data_files=f"hf://datasets/{files}@v1/train.jsonl", split="train").num_rows,
        "pushed": {name: split.num_rows for name, split in load_dataset(pushed).items()},
        "small": load_dataset(pushed, "small", split="train").num_rows,
        "features": sorted(load_dataset_builder(pushed).info.features or {}),
    }


run({"publish": publish, "use": use, "share": share, "load": load})
