import numpy as np
import pytest
from PIL import Image

from torchnle.data import Cutout, plain_backgrounds, shapes
from torchnle.data.grouped_scenes import GroupedScenes, correlated, load_birds
from torchnle.data.image_folders import (
    load_class_folders,
    load_imagenet9,
    load_waterbirds,
    read_groups,
)

GROUNDS = {ground.location: ground for ground in plain_backgrounds()}
CONTEXTS = {name: [GROUNDS[f"on a {name} background"]] for name in ("white", "black")}
CLASSES = {name: shapes(names=[name], colours=["red", "green"]) for name in ("square", "star")}


def scenes(counts=((3, 1), (1, 3)), **options):
    return GroupedScenes(CLASSES, CONTEXTS, counts, size=48, **options)


def test_every_scene_is_of_its_cell():
    found = scenes()
    assert found.groups.tolist() == [0, 0, 0, 1, 2, 3, 3, 3]
    assert found.conflicting.tolist() == [False] * 3 + [True, True] + [False] * 3
    for index, each in enumerate(found):
        shape = each.scene.objects[0].phrase.split()[-1]
        assert shape == found.class_names[each.label]
        outside = np.asarray(each.image)[~each.mask].mean()
        assert (outside > 150) == (found.context_names[each.context] == "white")
        assert each.label == found.labels[index]
        assert each.context == found.contexts[index]


def test_a_smaller_set_is_a_part_of_a_larger_one_and_seeds_differ():
    few, many = scenes(), scenes(((5, 5), (5, 5)))
    assert few[0].image.tobytes() == many[0].image.tobytes()
    assert few[3].image.tobytes() == many[5].image.tobytes()
    assert few[0].image.tobytes() != scenes(seed=1)[0].image.tobytes()


@pytest.mark.parametrize("counts", [((1, 2),), ((1,), (2,)), ((0, 0), (0, 0)), ((-1, 2), (2, 2))])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(ValueError, match="2 classes and 2 contexts"):
        scenes(counts)


def test_shares_are_counted():
    assert correlated(40, 0.5) == ((20, 20), (20, 20))
    with pytest.raises(ValueError, match=r"1\.5"):
        correlated(40, 1.5)


def stamp(folder, name, caption):
    picture = Image.new("RGBA", (40, 40))
    picture.paste((200, 30, 30, 255), (5, 5, 35, 30))
    picture.save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text(caption)


def test_birds_are_parted_by_wordnet(tmp_path):
    for name in ("drake", "pelican", "silver gull", "crow", "turkey"):
        stamp(tmp_path, name, f"A {name}.")
    found = load_birds(tmp_path)
    assert [bird.source for bird in found["waterbird"]] == ["drake.png", "pelican.png", "silver gull.png"]
    assert [bird.source for bird in found["landbird"]] == ["crow.png", "turkey.png"]
    assert all(isinstance(bird, Cutout) for birds in found.values() for bird in birds)


def test_birds_of_one_kind_are_refused(tmp_path):
    stamp(tmp_path, "crow", "A crow.")
    with pytest.raises(ValueError, match="no waterbird"):
        load_birds(tmp_path)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def test_class_folders_and_their_groups(tmp_path):
    for name in ("00_dog/a.png", "00_dog/b.jpg", "01_land_bird/c.png"):
        picture(tmp_path / name)
    (tmp_path / "01_land_bird" / "notes.txt").write_text("x")
    found = load_class_folders(tmp_path)
    assert found.class_names == ("dog", "land bird")
    assert [each.label for each in found.images] == [0, 0, 1]
    assert found.images[0].image.size == (8, 8)
    table = tmp_path / "groups.csv"
    table.write_text("file,group\n00_dog/a.png,beach\n00_dog/b.jpg,grass\n01_land_bird/c.png,beach\n")
    grouped = found.with_contexts(read_groups(table), tmp_path)
    assert (grouped.context_names, [each.context for each in grouped.images]) == (
        ("beach", "grass"),
        [0, 1, 0],
    )
    table.write_text("file,group\n00_dog/a.png,beach\n")
    with pytest.raises(ValueError, match="2 images have no group"):
        found.with_contexts(read_groups(table), tmp_path)
    table.write_text("image,group\nx,y\n")
    with pytest.raises(ValueError, match=r"without \['file'\]"):
        read_groups(table)


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(NotADirectoryError):
        load_class_folders(tmp_path / "none")
    picture(tmp_path / "dog" / "a.png")
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match="cat"):
        load_class_folders(tmp_path)


def test_waterbirds_metadata(tmp_path):
    rows = ["img_id,img_filename,y,split,place,place_filename"]
    rows += ["1,a/x.jpg,0,0,1,p", "2,a/y.jpg,1,0,1,p", "3,a/z.jpg,1,2,0,p"]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    found = load_waterbirds(tmp_path)
    assert [(each.label, each.context) for each in found.images] == [(0, 1), (1, 1)]
    assert load_waterbirds(tmp_path, "test").images[0].path == tmp_path / "a/z.jpg"
    for split, words in (("val", "no image"), ("all", "split='all'")):
        with pytest.raises(ValueError, match=words):
            load_waterbirds(tmp_path, split)


def test_imagenet9(tmp_path):
    for name in ("00_dog", "01_bird"):
        picture(tmp_path / "only_bg_t" / "val" / name / "a.png")
    assert load_imagenet9(tmp_path, "only_bg_t").class_names == ("dog", "bird")
