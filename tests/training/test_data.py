import numpy as np
import pytest
import torch

from app.embedding.data import (
    LabelledSet,
    RowStream,
    augment,
    draw_augmentation,
    network_input,
    seeded,
    shuffled_batches,
    split_holdout,
    trigger_set,
    without_triggers,
)
from app.errors import Malformed
from app.keys.trigger_set import ImageInput, TensorInput


def test_an_image_trigger_reaches_the_network_pixel_by_pixel():
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)  # (H, W, C)
    triggers = trigger_set([ImageInput(2, 3, 3, pixels.tobytes()).encode()], [1])
    seen = network_input(triggers.inputs)
    assert seen.shape == (1, 3, 2, 3)
    assert (seen[0].numpy() == pixels.transpose(2, 0, 1).astype(np.float32) / 255).all()


def test_a_tensor_trigger_reaches_the_network_as_it_is():
    triggers = trigger_set([TensorInput.of((2, 2), [0.5, -1.5, 3.0, 1e-3]).encode()], [0])
    assert network_input(triggers.inputs).tolist() == [[[0.5, -1.5], [3.0, pytest.approx(1e-3)]]]


def test_an_epoch_shows_every_row_once_and_leaves_a_batch_of_one_out():
    rows = torch.cat(list(shuffled_batches(10, 4, seeded(1))))
    assert sorted(rows.tolist()) == list(range(10))
    assert [len(batch) for batch in shuffled_batches(9, 4, seeded(1))] == [4, 4]


@pytest.mark.parametrize(("count", "size"), [(5, 2), (2, 5), (4, 4), (1, 3)])
def test_every_trigger_is_shown_equally_often(count, size):
    stream = RowStream(count, size, seeded(2))
    shown = torch.cat([next(stream) for _ in range(count * 3)])
    assert len(shown) == count * size * 3
    assert set(torch.bincount(shown, minlength=count).tolist()) == {size * 3}


def test_a_holdout_takes_its_share_and_loses_no_row():
    data = LabelledSet(torch.arange(20.0)[:, None], torch.arange(20))
    task, test = split_holdout(data, 25, seed=3)
    assert (task.count, test.count) == (15, 5)
    assert sorted([*task.labels.tolist(), *test.labels.tolist()]) == list(range(20))
    assert task.inputs[:, 0].tolist() == task.labels.tolist()


def test_too_few_rows_to_hold_any_out_are_refused():
    with pytest.raises(Malformed, match="too few"):
        split_holdout(LabelledSet(torch.zeros(2, 1), torch.zeros(2)), 10, seed=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_rows_that_are_a_trigger_are_left_out_and_no_other(dtype):
    inputs = torch.arange(60).reshape(10, 1, 2, 3).to(dtype)
    inputs[7] = inputs[2]
    inputs[8, 0, 0, 0] += 1
    kept = without_triggers(
        LabelledSet(inputs, torch.arange(10)), LabelledSet(inputs[[2, 5]].clone(), torch.tensor([9, 9]))
    )
    assert kept.labels.tolist() == [0, 1, 3, 4, 6, 8, 9]
    assert torch.equal(kept.inputs, inputs[[0, 1, 3, 4, 6, 8, 9]])


def test_data_without_triggers_stays_as_it_is():
    data = LabelledSet(torch.zeros(4, 1), torch.zeros(4))
    assert without_triggers(data, LabelledSet(torch.ones(2, 1), torch.zeros(2))) is data


def test_data_that_is_all_triggers_is_refused():
    data = LabelledSet(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(Malformed, match="every row"):
        without_triggers(data, data)


def test_augmentation_flips_and_shifts_whole_pictures_and_nothing_else():
    image = torch.arange(1.0, 26.0).reshape(1, 1, 5, 5)
    seen = augment(image.repeat(200, 2, 1, 1), draw_augmentation(200, seeded(4), flip=True, crop_padding=1))
    assert seen.shape == (200, 2, 5, 5)
    assert torch.equal(seen[:, 0], seen[:, 1])
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))[0, 0]
    flipped = torch.nn.functional.pad(image.flip(3), (1, 1, 1, 1))[0, 0]
    allowed = {
        tuple(source[y : y + 5, x : x + 5].flatten().tolist())
        for source in (padded, flipped)
        for y in range(3)
        for x in range(3)
    }
    found = {tuple(picture.flatten().tolist()) for picture in seen[:, 0]}
    assert found == allowed


def test_without_augmentation_images_stay_as_they_are():
    images = torch.rand(3, 1, 4, 4)
    assert augment(images, draw_augmentation(3, seeded(0), flip=False, crop_padding=0)) is images


def test_a_ranks_share_of_a_batch_is_augmented_like_the_same_rows_of_the_whole():
    images = torch.randint(0, 256, (9, 3, 6, 6), dtype=torch.uint8)
    drawn = draw_augmentation(9, seeded(1), flip=True, crop_padding=2)
    for rank in range(2):
        rows = torch.arange(9)[rank::2]
        assert torch.equal(augment(images[rows], drawn.pick(rows)), augment(images, drawn)[rows])
