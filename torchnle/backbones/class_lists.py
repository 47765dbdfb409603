"""Known lists of class names, and the names that a model itself states."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from torch import nn

from torchnle.backbones import timm, transformers
from torchnle.backbones.default import imagenet_class_names

_CIFAR_10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR_100 = (
    "apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus, "
    "butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch, "
    "crab, crocodile, cup, dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, "
    "kangaroo, keyboard, lamp, lawn mower, leopard, lion, lizard, lobster, man, maple tree, motorcycle, "
    "mountain, mouse, mushroom, oak tree, orange, orchid, otter, palm tree, pear, pickup truck, pine tree, "
    "plain, plate, poppy, porcupine, possum, rabbit, raccoon, ray, road, rocket, rose, sea, seal, shark, "
    "shrew, skunk, skyscraper, snail, snake, spider, squirrel, streetcar, sunflower, sweet pepper, table, "
    "tank, telephone, television, tiger, tractor, train, trout, tulip, turtle, wardrobe, whale, willow tree, "
    "wolf, woman, worm"
)
#: Lists of class names with a name of their own, in the usual order of the classes.
CLASS_LISTS: dict[str, Callable[[], tuple[str, ...]]] = {
    "imagenet-1k": imagenet_class_names,
    "cifar-10": lambda: tuple(_CIFAR_10.split()),
    "cifar-100": lambda: tuple(_CIFAR_100.split(", ")),
}
#: The class names of models that were loaded by name here.
_loaded: WeakKeyDictionary[nn.Module, tuple[str, ...]] = WeakKeyDictionary()


def shipped_class_list(name: str) -> tuple[str, ...]:
    """Return a known list of class names, such as ImageNet's.

    Args:
        name: One of `CLASS_LISTS`, in any case: "imagenet-1k", "cifar-10", "cifar-100".

    Raises:
        ValueError: If there is no such list.
        MissingDependencyError: If the package with ImageNet's names is not installed.

    Example:
        >>> shipped_class_list("cifar-10")[:3], len(shipped_class_list("CIFAR-100"))
        (('airplane', 'automobile', 'bird'), 100)
    """
    if name.lower() not in CLASS_LISTS:
        raise ValueError(
            f"class_names={name!r} is one string, and no known list of class names. Pass a list, a name a "
            f"class, or one of {', '.join(map(repr, CLASS_LISTS))}."
        )
    return CLASS_LISTS[name.lower()]()


def remember(model: nn.Module, names: tuple[str, ...]) -> None:
    """Store a loaded model's class names, or that it has none, for the lifetime of the model.

    Args:
        model: The model.
        names: Its class names; empty = none.
    """
    _loaded[model] = names


def stated_names(model: nn.Module) -> tuple[tuple[str, ...], str]:
    """Find the class names that a model itself states.

    Args:
        model: A model that `backbones.load` gave; of transformers, whose configuration names its classes
            (`id2label`); or of timm, with label names of its own, or with weights that timm says were trained
            last on ImageNet's 1,000 classes.

    Returns:
        The names (empty if it states none) and their source in words.

    Example:
        >>> stated_names(nn.Linear(2, 2))
        ((), '')
    """
    if model in _loaded:
        return _loaded[model], "those of the weights that were loaded by name"
    sources = {
        "those of the model's id2label": transformers.stated_names(model),
        "those that timm's configuration of the model states": timm.stated_names(model),
    }
    return next(((names, source) for source, names in sources.items() if names), ((), ""))
