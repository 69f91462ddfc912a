"""What `skipit rules` and `skipit methods` print: facts that need no torch to be read.

A test holds them equal to what the rules and methods say of themselves.
"""

from __future__ import annotations

from typing import Any

#: The rules of `vlm_bridge.rules.RULES`, in its order.
RULE_FACTS: tuple[dict[str, Any], ...] = (
    {
        "name": "skip-it",
        "modes": ["freeze"],
        "requires": "forward pass",
        "condition": "geometric + proximal + cross-modal",
        "source": "reconstruction of arXiv:2509.25584 (geometric, proximal, cross-modal)",
    },
    {
        "name": "skip-it-slopes",
        "modes": ["freeze", "block", "early_exit", "late_entry"],
        "requires": "forward pass",
        "condition": "functional: S6 slopes + cross-modal S8",
        "source": "reconstruction of arXiv:2509.25584 (S6 slopes, cross-modal S8, S7)",
    },
    {
        "name": "shortgpt",
        "modes": ["block"],
        "requires": "forward pass",
        "condition": "geometric",
        "source": "Men et al. 2024, arXiv:2403.03853, eq. 1",
    },
    {
        "name": "angular",
        "modes": ["block"],
        "requires": "forward pass",
        "condition": "geometric",
        "source": "Gromov et al. 2024, arXiv:2403.17887, eq. 6 and 7",
    },
    {
        "name": "adaskip",
        "modes": ["sublayer"],
        "requires": "forward pass",
        "condition": "geometric",
        "source": "He et al. 2025, arXiv:2501.02336, input-output similarity of sublayers",
    },
    {
        "name": "arank",
        "modes": ["block"],
        "requires": "forward pass",
        "condition": "none of the four",
        "source": "Luo et al. 2024, arXiv:2410.13859, rank of attention maps",
    },
    {
        "name": "delask",
        "modes": ["block"],
        "requires": "forward pass",
        "condition": "none of the four",
        "source": "arXiv:2606.00819, reversal rule",
    },
    {
        "name": "skip-vision",
        "modes": ["freeze"],
        "requires": "forward pass",
        "condition": "proximal",
        "source": "arXiv:2503.21817, feature change of vision tokens by the feed-forward network",
    },
    {
        "name": "var",
        "modes": ["early_exit", "freeze", "late_entry"],
        "requires": "forward pass",
        "condition": "cross-modal",
        "source": "visual attention ratio as in arXiv:2509.25584, cross-modal condition",
    },
    {
        "name": "shannon-invariants",
        "modes": ["block", "freeze"],
        "requires": "forward pass",
        "condition": "informational",
        "source": "Gutknecht et al. 2025, arXiv:2504.15779, redundancy degree",
    },
    {
        "name": "lvlm-pid",
        "modes": ["early_exit", "freeze"],
        "requires": "forward pass",
        "condition": "informational",
        "source": "arXiv:2603.29676, atoms by layer",
    },
    {
        "name": "skip-it-runs",
        "modes": ["freeze", "block", "early_exit", "late_entry"],
        "requires": "candidate runs",
        "condition": "functional: S6 slopes and measured KL",
        "source": "skip-it-slopes, then KL of the candidates it puts first",
    },
    {
        "name": "shortv",
        "modes": ["freeze"],
        "requires": "candidate runs",
        "condition": "functional (without labels)",
        "source": "Yuan et al. 2025, arXiv:2504.00502, eq. 3",
    },
    {
        "name": "vtw",
        "modes": ["early_exit"],
        "requires": "candidate runs",
        "condition": "informational at exit, functional (without labels)",
        "source": "Lin et al. 2024, arXiv:2405.05803, eq. 5 and its code",
    },
    {
        "name": "deepinsert",
        "modes": ["late_entry"],
        "requires": "candidate runs",
        "condition": "informational at entry, functional (without labels)",
        "source": "arXiv:2504.19327, section 3",
    },
    {
        "name": "fastv",
        "modes": ["token_pruning"],
        "requires": "candidate runs",
        "condition": "cross-modal",
        "source": "Chen et al. 2024, arXiv:2403.06764, section 3.3",
    },
    {
        "name": "gm-skip",
        "modes": ["block", "freeze"],
        "requires": "labels",
        "condition": "functional (with labels)",
        "source": "arXiv:2508.18227, algorithm 1",
    },
    {
        "name": "unified",
        "modes": ["block", "freeze"],
        "requires": "nothing",
        "condition": "none",
        "source": "Liu et al. 2024, arXiv:2404.06954, section 3",
    },
    {
        "name": "random",
        "modes": ["block", "freeze", "sublayer", "early_exit", "late_entry", "token_pruning"],
        "requires": "nothing",
        "condition": "none",
        "source": "null",
    },
    {
        "name": "deepest-first",
        "modes": ["block", "freeze", "sublayer", "early_exit", "late_entry", "token_pruning"],
        "requires": "nothing",
        "condition": "none",
        "source": "null; as the simple rule of Gromov et al. 2024, arXiv:2403.17887, section 4.4",
    },
)

#: The methods of `vlm_bridge.methods.METHODS`, in its order.
METHOD_FACTS: tuple[dict[str, Any], ...] = (
    {
        "name": "gm-skip",
        "settings": {"trade_off": 0.1, "patience": 2, "rounds": 8},
        "requires": "labels",
        "source": "arXiv:2508.18227, algorithm 1",
        "deviation": "the metric is accuracy of the first answer token, the trade-off is ours",
    },
    {
        "name": "skip-vision",
        "settings": {"after": 2, "keep": 0.5},
        "requires": "nothing",
        "source": "arXiv:2503.21817, skip of the feed-forward network",
        "deviation": "keys and values of skipped tokens stay in the cache, which the paper drops "
        "for decoding; tokens are ranked by feature change, not by a trained token merger",
    },
    {
        "name": "delask",
        "settings": {"blend": 0.5, "threshold": 0.0},
        "requires": "nothing",
        "source": "arXiv:2606.00819, reversal rule",
        "deviation": "the share that is taken back is a setting, 0.5 unless it is set",
    },
    {
        "name": "unified",
        "settings": {"speed_up": 1.25},
        "requires": "nothing",
        "source": "Liu et al. 2024, arXiv:2404.06954, section 3",
        "deviation": "none: its fine-tuning afterwards is optional there and left out here",
    },
)
