"""The 38 classifiers of the Zero-shot NLE paper, by the names of its Table 13, and their sources.

"All pretrained classifiers are obtained from the torchvision library"; the ViT and ConvNeXt pretrained on
ImageNet-21K and the ConvNeXtV2 from timm; BEiT, DINOv2 and CvT from transformers (appendix I).
"""

from __future__ import annotations

from typing import Any

#: Name in the paper -> (reference, side of the input, options of the builder).
PAPER: dict[str, tuple[str, int | None, dict[str, Any]]] = {
    "ResNet50": ("torchvision:resnet50", 224, {}),
    "ResNet50 v2": ("torchvision:resnet50", 224, {}),
    "ResNet101": ("torchvision:resnet101", 224, {}),
    "ResNet101 v2": ("torchvision:resnet101", 224, {}),
    "WideResNet50": ("torchvision:wide_resnet50_2", 224, {}),
    "WideResNet50 v2": ("torchvision:wide_resnet50_2", 224, {}),
    "WideResNet101": ("torchvision:wide_resnet101_2", 224, {}),
    "WideResNet101 v2": ("torchvision:wide_resnet101_2", 224, {}),
    "ResNeXt50 32x4d": ("torchvision:resnext50_32x4d", 224, {}),
    "ResNeXt50 32x4d v2": ("torchvision:resnext50_32x4d", 224, {}),
    "ResNeXt101 64x4d": ("torchvision:resnext101_64x4d", 224, {}),
    "ResNeXt101 32x8d": ("torchvision:resnext101_32x8d", 224, {}),
    "ResNeXt101 32x8d v2": ("torchvision:resnext101_32x8d", 224, {}),
    "DenseNet121": ("torchvision:densenet121", 224, {}),
    "DenseNet161": ("torchvision:densenet161", 224, {}),
    "EfficientNetv2-S": ("torchvision:efficientnet_v2_s", 384, {}),
    "EfficientNetv2-M": ("torchvision:efficientnet_v2_m", 480, {}),
    "ShuffleNetv2 x2.0": ("torchvision:shufflenet_v2_x2_0", 224, {}),
    "ConvNeXt-Tiny": ("torchvision:convnext_tiny", 224, {}),
    "ConvNeXt-Small": ("torchvision:convnext_small", 224, {}),
    "ConvNeXt-Base": ("torchvision:convnext_base", 224, {}),
    "MobileNetv3-L": ("torchvision:mobilenet_v3_large", 224, {}),
    "ViT-B/32": ("torchvision:vit_b_32", 224, {}),
    "ViT-B/16 swag": ("torchvision:vit_b_16", None, {"image_size": 384}),
    "ViT-L/32": ("torchvision:vit_l_32", 224, {}),
    "ViT-L/16": ("torchvision:vit_l_16", 224, {}),
    "Swin-T": ("torchvision:swin_t", 224, {}),
    "Swin-S": ("torchvision:swin_s", 224, {}),
    "ViT-B/16 pt": ("timm:vit_base_patch16_224", None, {}),
    "ConvNeXt-B pt": ("timm:convnext_base", None, {}),
    "ConvNeXtV2-B": ("timm:convnextv2_base", None, {}),
    "ConvNeXtV2-B pt": ("timm:convnextv2_base", None, {}),
    "ConvNeXtV2-B pt-384": ("timm:convnextv2_base", 384, {}),
    "BEiT-B/16": ("transformers:beit", None, {}),
    "BEiT-L/16": (
        "transformers:beit",
        None,
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
    "DINOv2-S": (
        "transformers:dinov2",
        None,
        {"hidden_size": 384, "num_attention_heads": 6, "patch_size": 14},
    ),
    "DINOv2-B": ("transformers:dinov2", None, {"patch_size": 14}),
    "CvT-21": ("transformers:cvt", 224, {"depth": (1, 4, 16)}),
}
