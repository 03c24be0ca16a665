"""The stock client's Xet library alone: a file into a store and out of it again: its own on disk (`local://`)."""

from __future__ import annotations

import json
import sys

import hf_xet  # type: ignore[import-untyped]  # the wheel has no types


def write(endpoint: str, path: str) -> dict[str, object]:
    commit = hf_xet.XetSession().new_upload_commit(endpoint=endpoint)
    handle = commit.start_upload_file(path)
    commit.wait_to_finish()
    info = handle.result().xet_info
    return {"hash": info.hash, "size": info.file_size}


def read(endpoint: str, file_hash: str, size: str, into: str) -> dict[str, object]:
    with hf_xet.XetSession().new_file_download_group(endpoint=endpoint) as group:
        group.start_download_file(hf_xet.XetFileInfo(file_hash, int(size)), into)
    return {}


if __name__ == "__main__":
    json.dump({"write": write, "read": read}[sys.argv[1]](*sys.argv[2:]), sys.stdout)
