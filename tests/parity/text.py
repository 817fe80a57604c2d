"""CLAP text: hidden states, pooled vector, v1 and v2 conditions."""

from __future__ import annotations

import re

from torch import Tensor

from parity import parts
from parity.golden import Golden

GROUP = "text"


def check(golden: Golden) -> None:
    cases = golden.file("text/cases")
    ids, mask = cases.read("input_ids"), cases.read("attention_mask").bool()
    v1, v2 = parts.clap(golden, projects=True), parts.clap(golden, projects=False)
    hidden = v1.text_branch(ids, mask)
    for name in cases.names():
        row = re.fullmatch(r"last_hidden_state_row(\d+)", name)
        if row:
            cases.compare(GROUP, name, hidden[int(row[1])])
    pooled = v1.text_branch.pool(hidden)
    cases.compare(GROUP, "pooler_output", pooled)
    cases.compare(GROUP, "v1_projected_unnormalised", v1.project(pooled))
    cases.compare(GROUP, "v1_embedding", v1(ids, mask))
    cases.compare(GROUP, "v2_embedding", v2(ids, mask))


def conditions(golden: Golden, version: str, prompts: list[str]) -> Tensor | None:
    """Conditions [n, 1, D] of prompts whose ids the text cases hold; None when they lack one of them."""
    cases = golden.file("text/cases")
    texts = cases.meta.get("texts", [])
    if version not in ("v1", "v2") or any(prompt not in texts for prompt in prompts):
        return None
    rows = [texts.index(prompt) for prompt in prompts]
    network = parts.clap(golden, projects=version == "v1")
    ids, mask = cases.read("input_ids")[rows], cases.read("attention_mask")[rows].bool()
    return network(ids, mask)[:, None]  # type: ignore[no-any-return]
