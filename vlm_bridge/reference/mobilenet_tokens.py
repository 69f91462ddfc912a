"""MobileNetV2 as a vision tower: its last feature map as a sequence of tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import AutoConfig, AutoModel, MobileNetV2Config, MobileNetV2Model
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vlm_bridge.errors import BridgeError

#: Pixels between two places of the last feature map.
STRIDE = 32


class MobileNetTokensConfig(MobileNetV2Config):
    """The configuration of MobileNetV2, with width and pixels of its tokens."""

    model_type = "mobilenet_v2_tokens"

    hidden_size: int = 1280
    patch_size: int = STRIDE


class MobileNetTokens(MobileNetV2Model):
    """A MobileNetV2 whose last feature map (n, c, h, w) comes as tokens (n, h w, c), row by row.

    h and w are a 32nd of the image's sides, rounded up: 4 x 4 tokens at 112 pixels, 7 x 7 at 224.
    Importing this module makes `AutoModel` know it, so that a LLaVA can have it as its tower.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018.

    Raises:
        BridgeError: `hidden_size` is not the number of channels of the map.

    Example:
        >>> import torch
        >>> tower = MobileNetTokens(MobileNetTokensConfig(depth_multiplier=0.1)).eval()
        >>> tower(torch.zeros(1, 3, 64, 64)).last_hidden_state.shape
        torch.Size([1, 4, 1280])
    """

    config_class = MobileNetTokensConfig
    # It has no attention, so any implementation does.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: MobileNetTokensConfig) -> None:
        super().__init__(config, add_pooling_layer=False)
        channels = self.conv_1x1.convolution.out_channels
        if channels != config.hidden_size:
            raise BridgeError(
                f"the last map of this MobileNetV2 has {channels} channels, but its configuration "
                f"says hidden_size={config.hidden_size}"
            )

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """The tokens of images (n, 3, height, width), as the last and only hidden states."""
        feature_map = super().forward(pixel_values, return_dict=True).last_hidden_state
        tokens = feature_map.flatten(2).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))


AutoConfig.register(MobileNetTokensConfig.model_type, MobileNetTokensConfig, exist_ok=True)
AutoModel.register(MobileNetTokensConfig, MobileNetTokens, exist_ok=True)
