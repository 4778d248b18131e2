"""Files in the layouts of their authors: made from a network by the inverse of the documented names, and read back.

The names are those of the code that the authors published: facebookresearch/ConvNeXt and ConvNeXt-V2, deit, dino,
dinov2, mae and moco-v3, microsoft/Swin-Transformer, microsoft/unilm (BEiT), openai/CLIP.
"""

import re

import pytest
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed

from frostline.features.backbones import load_backbone
from frostline.features.errors import WeightsError


def renamed(state, names, *, drop=()):
    """Return tensors under names in which each pattern is replaced, in order."""
    found = {}
    for key, value in state.items():
        if key.startswith(drop):
            continue
        name = key
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return found


def under(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


CONVNEXT = (
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
    (r"\.blocks\.", "."),
    (r"conv_dw", "dwconv"),
    (r"mlp\.fc", "pwconv"),
    (r"mlp\.grn\.weight", "grn.gamma"),
    (r"mlp\.grn\.bias", "grn.beta"),
    (r"^head\.norm", "norm"),
    (r"^head\.fc", "head"),
)
CLIP = (
    (r"^norm_pre", "ln_pre"),
    (r"^norm\.", "ln_post."),
    (r"^blocks\.", "transformer.resblocks."),
    (r"\.norm(\d)", r".ln_\1"),
    (r"attn\.qkv\.", "attn.in_proj_"),
    (r"attn\.proj", "attn.out_proj"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"^patch_embed\.proj", "conv1"),
)


def convnext(state):
    grown = {key: value[None, None, None] if "grn" in key else value for key, value in state.items()}
    return {"model": renamed(grown, CONVNEXT)}


def clip(state):
    own = {
        "class_embedding": state["cls_token"][0, 0],
        "positional_embedding": state["pos_embed"][0],
        "proj": state["head.weight"].T,
    }
    tower = renamed(state, CLIP, drop=("cls_token", "pos_embed", "head."))
    text = {"positional_embedding": torch.zeros(77, 8), "transformer.resblocks.0.ln_1.weight": torch.zeros(8)}
    text |= {"text_projection": torch.zeros(8, 8), "logit_scale": torch.tensor(1.0)}
    return under("visual.", {**own, **tower}) | text


def beit(state):
    buffers = {
        f"blocks.{block}.attn.relative_position_index": torch.zeros(197, 197, dtype=torch.int64)
        for block in range(12)
    }
    return {"module": {**state, **buffers}}


def mae(state):
    decoder = {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_pos_embed": torch.zeros(1, 197, 8),
        "decoder_blocks.0.norm1.weight": torch.zeros(8),
        "decoder_pred.bias": torch.zeros(8),
    }
    return {"model": renamed(state, (), drop=("head.",)) | decoder, "epoch": 800}


def dino(state):
    trunk, head = renamed(state, (), drop=("head.",)), {"head.mlp.0.weight": torch.zeros(8, 8)}
    student = {key: torch.zeros_like(value) for key, value in trunk.items()}
    return {
        "student": under("module.", under("backbone.", student) | head),
        "teacher": under("backbone.", trunk) | head,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(8)}}},
    }


def moco(state):
    trunk, head = renamed(state, (), drop=("head.",)), {"head.0.weight": torch.zeros(8, 8)}
    momentum = {key: torch.zeros_like(value) for key, value in trunk.items()}
    return {
        "state_dict": under("module.base_encoder.", trunk | head)
        | under("module.momentum_encoder.", momentum | head)
        | {"module.predictor.0.weight": torch.zeros(8, 8)},
        "arch": "vit_small",
    }


def dinov2(state):
    """With registers, which timm doesn't add a position to: it adds that of the class token to the token."""
    own = {
        "mask_token": torch.zeros(1, state["cls_token"].shape[-1]),
        "register_tokens": state["reg_token"],
        "cls_token": state["cls_token"],
        "pos_embed": torch.cat([torch.zeros_like(state["cls_token"]), state["pos_embed"]], 1),
    }
    return renamed(state, (), drop=("cls_token", "reg_token", "pos_embed")) | own


def swin(state):
    """Whose stages end in their downsampling. timm's begin with it."""
    before = {f"layers.{stage}.downsample": f"layers.{stage - 1}.downsample" for stage in (1, 2, 3)}
    names = [(re.escape(ours), theirs) for ours, theirs in before.items()]
    buffers = {"layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49)}
    buffers |= {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64)}
    return {"model": renamed(state, [*names, (r"^head\.fc", "head")]) | buffers}


SLOW = {"beit_base_patch16_224", "swin_tiny_patch4_window7_224"}

LAYOUTS = {
    "convnext_atto": convnext,
    "convnextv2_atto": convnext,
    "vit_xsmall_patch16_clip_224": clip,
    "beit_base_patch16_224": beit,
    "deit_tiny_distilled_patch16_224": lambda state: {"model": state},
    "deit3_small_patch16_224": lambda state: {"model": renamed(state, [(r"ls(\d)\.gamma", r"gamma_\1")])},
    "vit_tiny_patch16_224": mae,
    "vit_small_patch16_224": dino,
    "vit_small_patch32_224": moco,
    "vit_small_patch14_reg4_dinov2": dinov2,
    "swin_tiny_patch4_window7_224": swin,
}


def random_state(name, **options):
    """Tensors of a network, of which no two are equal."""
    generator = torch.Generator().manual_seed(4)
    state = timm.create_model(name, **options).state_dict()
    return {key: torch.randn(value.shape, generator=generator) for key, value in state.items()}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in SLOW else []) for name in LAYOUTS]
)
def test_layouts_of_authors_are_read_exactly(tmp_path, name):
    state = random_state(name)
    torch.save(LAYOUTS[name](dict(state)), tmp_path / "theirs.pth")
    loaded = load_backbone(f"timm:{name}", weights=tmp_path / "theirs.pth").module.state_dict()
    classifier = {key for key in state if key.startswith("head.") and "norm" not in key}
    assert state.keys() - classifier <= loaded.keys() <= state.keys()
    assert [key for key in loaded if not torch.equal(loaded[key], state[key])] in ([], ["head.bias"])


def test_position_embeddings_of_another_size_are_resampled_as_timm_does(tmp_path):
    state = random_state("vit_tiny_patch16_224", img_size=384)
    torch.save(state, tmp_path / "larger.pth")
    backbone = load_backbone("timm:vit_tiny_patch16_224", weights=tmp_path / "larger.pth")
    assert "converted by the architecture's own conversion" in backbone.note
    loaded = backbone.module.state_dict()
    expected = resample_abs_pos_embed(state["pos_embed"], [14, 14], num_prefix_tokens=1)
    assert torch.equal(loaded["pos_embed"], expected)
    assert all(torch.equal(loaded[key], state[key]) for key in state if key != "pos_embed")


@pytest.mark.long
def test_position_embeddings_of_another_size_are_resampled_as_torchvision_does(tmp_path):
    from torchvision.models import vit_b_32
    from torchvision.models.vision_transformer import interpolate_embeddings

    state = vit_b_32(image_size=384, num_classes=3).state_dict()
    torch.save(state, tmp_path / "larger.pth")
    backbone = load_backbone("torchvision:vit_b_32", weights=tmp_path / "larger.pth")
    name = "encoder.pos_embedding"
    expected = interpolate_embeddings(224, 32, state.copy())[name]
    assert torch.equal(backbone.module.state_dict()[name], expected)
    assert "logits" not in backbone.layers()


def test_a_conversion_fits_only_its_architecture(tmp_path):
    torch.save(convnext(random_state("convnext_atto")), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth.* don't fit .* 126 of another shape: stem\.0"):
        load_backbone("timm:convnext_femto", weights=tmp_path / "other.pth")


def test_timm_loads_downloads_as_before_after_a_conversion(tmp_path):
    from timm.models import _builder

    loader = _builder.load_pretrained
    torch.save(convnext(random_state("convnext_atto")), tmp_path / "theirs.pth")
    load_backbone("timm:convnext_atto", weights=tmp_path / "theirs.pth")
    assert _builder.load_pretrained is loader
